#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clap::Parser;
use sandbox_netstack::policy::Answer;

use super::*;
use std::fs;

const API: &str = "version = 1\n\n[[rule]]\nid = \"api\"\ndir = \"egress\"\naction = \"allow\"\n\
                   ports = [443]\nname = [\"api.example.com\"]\n";

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Explains as the command line has it; names of files begin with `@`.
    fn explain(&self, line: &str) -> Explanation {
        let word = |word: &str| match word.strip_prefix('@') {
            Some(name) => self.path(name).into_os_string(),
            None => word.into(),
        };
        let words = ["sandboxctl", "explain"].into_iter().chain(line.split(' ')).map(word);
        match Line::try_parse_from(words).unwrap().command {
            Command::Explain(question) => explain(&question).unwrap(),
            Command::Check { .. } => panic!("not explain"),
        }
    }
}

#[test]
fn good_files() {
    let files = Files::new(&[("a.toml", API)]);
    let path = files.path("a.toml");
    let (text, is_good) = check(std::slice::from_ref(&path));
    assert!(is_good);
    assert_eq!(text, format!("{}: good, 1 rule\n", path.display()));
}

#[test]
fn bad_files_are_told_with_line_key_and_fix() {
    let bad = API.replace("ports = [443]", "cidr = [\"10.0.0.1/8\"]");
    let files = Files::new(&[("good.toml", API), ("bad.toml", &bad)]);
    let paths = [files.path("bad.toml"), files.path("none.toml"), files.path("good.toml")];
    let (text, is_good) = check(&paths);
    assert!(!is_good);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].contains("bad.toml: line 7: rule[1].cidr: `10.0.0.1/8`"), "{text}");
    assert!(lines[1].contains("cannot read") && lines[1].contains("No such file"), "{text}");
    assert!(lines[2].ends_with("good.toml: good, 1 rule"), "{text}");
}

#[test]
fn warnings_are_told() {
    let open = API.replace("version = 1", "version = 1\ndefaults = { egress = \"allow\" }");
    let files = Files::new(&[("a.toml", &open.replace("\"allow\"\nports", "\"deny\"\nports"))]);
    let (text, is_good) = check(&[files.path("a.toml")]);
    assert!(
        is_good && text.contains("warning: line 9: rule[1].name (rule `api`): advisory"),
        "{text}"
    );
}

#[test]
fn a_destination_is_explained() {
    let files = Files::new(&[("a.toml", API)]);
    let told = files.explain("@a.toml api.example.com:443");
    assert_eq!((told.answer, told.rule.as_deref()), (Answer::Allowed, Some("api")));
    let told = files.explain("@a.toml api.example.com:443 --at 10.0.0.1");
    assert_eq!((told.answer, told.reason.as_str()), (Answer::Denied, "rebinding"));
    let told = files.explain("@a.toml 10.96.0.10:53 --proto udp --resolver 10.96.0.10");
    assert_eq!((told.answer, told.reason.as_str()), (Answer::Allowed, "resolver"));
    let told = files.explain("@a.toml [2001:db8::1]:443 --host 2001:db8::1");
    assert_eq!((told.answer, told.reason.as_str()), (Answer::Denied, "system:host"));
}

#[test]
fn the_nodes_file_comes_first() {
    let node = "version = 1\ndefaults = { egress = \"allow\" }\n[[rule]]\nid = \"no\"\n\
                dir = \"egress\"\naction = \"deny\"\nname = [\"*.example.com\"]\n";
    let files = Files::new(&[("a.toml", API), ("node.toml", node)]);
    let told = files.explain("@a.toml api.example.com:443 --node @node.toml");
    assert_eq!((told.answer, told.rule.as_deref()), (Answer::Denied, Some("no")));
}

#[test]
fn command_lines_that_say_nothing() {
    for line in
        ["check", "explain a.toml", "explain a.toml nowhere", "explain a.toml a:1 --proto x"]
    {
        assert!(Line::try_parse_from(["sandboxctl"].into_iter().chain(line.split(' '))).is_err());
    }
}
