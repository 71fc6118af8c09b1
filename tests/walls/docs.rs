//! Walls around the documentation: what a page names exists.

use std::fs;
use std::path::Path;

use crate::source::{files, lines};
use crate::{none, tree};

/// Errors are quoted with this in place of their arguments.
const PLACEHOLDER: char = '…';
/// The part of the page that quotes containerd and its clients.
const FOREIGN: &str = "## Errors of other programs";

fn read(path: &str) -> String {
    fs::read_to_string(tree().join(path)).unwrap()
}

/// Rust sources as one text in which a string literal has no line breaks, and
/// no escapes or backquotes.
fn messages() -> String {
    let joined: Vec<String> = lines().into_iter().map(|(_, _, line)| line).collect();
    let mut text = String::new();
    for line in joined {
        match line.trim_start().strip_suffix('\\') {
            Some(part) => text.push_str(part),
            None => {
                text.push_str(line.trim_start());
                text.push('\n');
            }
        }
    }
    text.replace(['\\', '`'], "")
}

#[test]
fn quoted_errors_are_in_the_sources() {
    let page = read("docs/troubleshooting.md");
    let (own, _) = page.split_once(FOREIGN).expect("the page has both parts");
    let sources = messages();
    let quoted: Vec<&str> =
        own.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    assert!(quoted.len() >= 10, "docs/troubleshooting.md has lost its errors");
    let missing = quoted.into_iter().filter(|error| {
        let mut parts = error.split(PLACEHOLDER).map(str::trim).filter(|part| part.len() > 2);
        !parts.all(|part| sources.contains(part))
    });
    let rule = "docs/troubleshooting.md quotes errors that no source has";
    none(missing.map(str::to_owned).collect(), rule);
}

/// Targets of the links `[text](target)` in a text of Markdown.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn links_between_pages_lead_to_files() {
    let mut broken = vec![];
    for page in files(".md") {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            if !page.parent().unwrap_or(Path::new("/")).join(path).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    none(broken, "links to files that do not exist");
}

/// Words in backquotes, in order.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// In a row of a walk, a file is followed by the functions that the step runs.
#[test]
fn files_and_functions_of_the_walks_exist() {
    const PAGE: &str = "docs/architecture.md";
    const ENDINGS: [&str; 4] = [".rs", ".proto", ".patch", ".toml"];
    let page = read(PAGE);
    let mut missing = vec![];
    let mut functions = 0;
    for line in page.lines() {
        let mut source: Option<(&str, String)> = None;
        let place = line.strip_suffix(" |").and_then(|row| row.rsplit_once(" | "));
        for word in quoted(place.map_or(line, |(_, place)| place)) {
            if word.contains('/') && ENDINGS.iter().any(|ending| word.ends_with(ending)) {
                match fs::read_to_string(tree().join(word)) {
                    Ok(text) => source = Some((word, text)),
                    Err(_) => missing.push(format!("{PAGE}: {word}")),
                }
            } else if let (Some(_), Some((file, text))) = (place, &source) {
                functions += 1;
                let has = |after| text.contains(&format!("fn {word}{after}"));
                if !has('(') && !has('<') {
                    missing.push(format!("{PAGE}: {file} has no function {word}"));
                }
            }
        }
    }
    assert!(functions > 60, "{PAGE} has lost its walks");
    none(missing, "files or functions that do not exist");
}
