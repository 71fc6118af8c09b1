#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn the_users_line_gives_the_home() {
    let folder = tempfile::tempdir().unwrap();
    let passwd = folder.path().join("passwd");
    let text = "root:x:0:0:root:/root:/bin/sh\n\nshort:x\nu:x:7:7::/home/u:/bin/sh\ne:x:8:8:::/x\n";
    std::fs::write(&passwd, text).unwrap();
    for (uid, home) in [(0, "/root"), (7, "/home/u"), (8, "/"), (9, "/")] {
        assert_eq!(home_of(uid, &passwd), home, "{uid}");
    }
}

#[test]
fn what_is_no_passwd_file_gives_none() {
    for path in ["/nonexistent", "/dev/zero", "/"] {
        assert_eq!(home_of(0, Path::new(path)), "/");
    }
}
