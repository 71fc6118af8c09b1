//! The home directory that a container's `/etc/passwd` gives a user.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Most of a passwd file that is looked at. It is the image's, and may be
/// anything, such as `/dev/zero`.
const MAX_PASSWD: u64 = 1024 * 1024;

/// The home of user `uid`, or `/` if the file has none, as runc does.
pub fn home_of(uid: u32, passwd: &Path) -> String {
    // A file that blocks on being opened is not a passwd file.
    if !passwd.is_file() {
        return "/".to_owned();
    }
    let Ok(file) = File::open(passwd) else { return "/".to_owned() };
    let lines = BufReader::new(file.take(MAX_PASSWD)).split(b'\n').map_while(Result::ok);
    let home = |line: Vec<u8>| home_in(&String::from_utf8_lossy(&line), uid);
    lines.filter_map(home).next().unwrap_or_else(|| "/".to_owned())
}

fn home_in(line: &str, uid: u32) -> Option<String> {
    let mut fields = line.trim().split(':').skip(2);
    let matches = fields.next()?.parse() == Ok(uid);
    let home = fields.nth(2)?;
    (matches && !home.is_empty()).then(|| home.to_owned())
}

#[cfg(test)]
mod tests;
