//! Standard streams and exit codes.

use sandbox_tests::{Bed, tests};

tests![Any stdout_and_stderr_stay_apart, Any exit_codes_are_exact];

/// R7: each stream arrives as it was written, apart from the other.
fn stdout_and_stderr_stay_apart(bed: &Bed) {
    let out = bed.run("a").shell("echo to-out; echo to-err >&2").ok();
    assert_eq!(out.text(), "to-out");
    assert_eq!(out.errors(), "to-err");
}

/// R10: the code that the process exits with is the code that `ctr` exits with.
fn exit_codes_are_exact(bed: &Bed) {
    for code in [0, 1, 7, 126, 127, 255] {
        bed.run(&format!("e{code}")).shell(&format!("exit {code}")).exits(code);
    }
}
