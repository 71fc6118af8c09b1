#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use super::*;

/// A folder with an executable `run` and a plain `data`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, mode) in [("run", 0o755), ("data", 0o644)] {
        let file = folder.path().join(name);
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }
    folder
}

fn message(name: &str, path: &str) -> String {
    find(name, path).unwrap_err().to_string()
}

#[test]
fn a_bare_name_is_looked_for_in_the_path() {
    let folder = folder();
    let dir = folder.path().display();
    assert_eq!(find("run", &format!("/nowhere:{dir}")), Ok(folder.path().join("run")));
    for path in [String::new(), "/nowhere".into(), format!("{dir}x")] {
        assert_eq!(message("run", &path), "exec: \"run\": executable file not found in $PATH");
    }
    // What is there and cannot be executed counts as not there.
    assert_eq!(
        message("data", &dir.to_string()),
        "exec: \"data\": executable file not found in $PATH"
    );
    assert_eq!(message("", "/bin"), "exec: \"\": executable file not found in $PATH");
}

#[test]
fn a_path_is_taken_as_it_is() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    assert_eq!(find(&path("run"), ""), Ok(folder.path().join("run")));
    assert_eq!(
        message("/nope/x", "/bin"),
        "exec: \"/nope/x\": stat /nope/x: no such file or directory"
    );
    let data = path("data");
    assert_eq!(message(&data, ""), format!("exec: {data:?}: permission denied"));
    let dir = folder.path().display().to_string();
    assert_eq!(message(&dir, ""), format!("exec: {dir:?}: is a directory"));
    let below_file = path("data/x");
    assert_eq!(
        message(&below_file, ""),
        format!("exec: {below_file:?}: stat {below_file}: not a directory")
    );
}

#[test]
fn errors_have_gos_words() {
    assert_eq!(words(Errno::ENOEXEC), "exec format error");
    assert_eq!(words(Errno::ENOENT), "no such file or directory");
    assert_eq!(words(Errno::EACCES), "permission denied");
    assert_eq!(words(Errno::EIO), "I/O error");
}
