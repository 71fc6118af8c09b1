//! The end of the guest's console, for people.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Most bytes that are looked at: the log is the guest's and may be large. A
/// kernel that panics prints the reason in less.
const MAX_BYTES: u64 = 8192;
/// Most lines shown: an error must still be readable.
const MAX_LINES: usize = 12;
/// Start of the kernel's message about a panic. Registers and a trace follow, more
/// than are shown.
const DEATHS: [&str; 4] = ["BUG: ", "kernel BUG at ", "Oops: ", "Kernel panic - "];
/// Most characters of a line: a guest may print without newlines.
const MAX_COLUMNS: usize = 160;

/// The last lines of the log at `path`, or those with which a kernel begins to
/// die; oldest first, without what a terminal would obey.
pub(crate) fn tail(path: &Path) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(MAX_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(lines(&String::from_utf8_lossy(&bytes)))
}

fn lines(text: &str) -> Vec<String> {
    let all: Vec<String> = text
        .split(['\n', '\r'])
        .map(|line| line.chars().filter(|c| !c.is_control()).take(MAX_COLUMNS).collect())
        .filter(|line: &String| !line.trim().is_empty())
        .collect();
    let death = all.iter().position(|line| DEATHS.iter().any(|words| line.contains(words)));
    let last = all.len().saturating_sub(MAX_LINES);
    all.into_iter().skip(death.map_or(last, |at| at.min(last))).take(MAX_LINES).collect()
}

/// One block of text: what a message ends with.
pub(crate) fn quote(path: &Path) -> String {
    match tail(path) {
        Ok(lines) if lines.is_empty() => "the guest's console is empty".to_owned(),
        Ok(lines) => {
            let block: String = lines.iter().map(|line| format!("\n  | {line}")).collect();
            format!("last lines of the guest's console:{block}")
        }
        Err(error) => format!("the guest's console {} cannot be read: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests;
