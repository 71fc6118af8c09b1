#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tokio::io::AsyncWriteExt;

use super::*;

#[test]
fn arguments_are_keys_and_values_in_order() {
    assert_eq!(
        arguments("_NERDCTL_INTERNAL_LOGGING=%2Fvar%2Flib%2Fn&b"),
        ["_NERDCTL_INTERNAL_LOGGING", "/var/lib/n", "b"]
    );
    assert!(arguments("").is_empty());
    assert_eq!(decode("a%zz+%41%"), "a%zz A%");
}

#[tokio::test]
async fn the_program_gets_both_streams_and_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let script = "exec 5>&-\n(echo \"$CONTAINER_NAMESPACE/$CONTAINER_ID $0=$1\"; cat <&3; \
                  cat <&4) >\"$1.new\"\nmv \"$1.new\" \"$1\"\n";
    let uri = format!("{}&log={}", shell("binary", script), out.display());
    let (mut stdout, mut stderr) = start("c", &uri, "ns").await.unwrap();
    stdout.write_all(b"one\n").await.unwrap();
    stderr.write_all(b"two\n").await.unwrap();
    drop((stdout, stderr));
    let written = async {
        while !out.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), written).await.unwrap();
    let text = std::fs::read_to_string(&out).unwrap();
    assert_eq!(text, format!("ns/c log={}\none\ntwo\n", out.display()));
}

/// The URI with `scheme` of a shell that does this.
fn shell(scheme: &str, script: &str) -> String {
    let script: String = script.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("{scheme}:///bin/sh?-c={script}")
}

#[tokio::test]
async fn a_program_that_dies_is_ready_to_the_first_scheme_and_not_to_the_second() {
    let uri = shell("binary", "exit 1");
    assert!(start("c", &uri, "ns").await.is_ok());
    let uri = shell("binary-v2", "exit 1");
    let error = crate::failure::chain(&start("c", &uri, "ns").await.err().unwrap());
    assert!(error.contains("/bin/sh") && error.contains("before it was ready"), "{error}");
}

#[tokio::test]
async fn a_program_of_the_second_scheme_says_that_it_is_ready() {
    let uri = shell("binary-v2", "printf x >&5; exec 5>&-; cat <&3 >/dev/null");
    assert!(start("c", &uri, "ns").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_program_that_never_gets_ready_is_an_error_in_time() {
    for scheme in ["binary", "binary-v2"] {
        let uri = shell(scheme, "exec sleep 1000");
        let error = crate::failure::chain(&start("c", &uri, "ns").await.err().unwrap());
        assert!(error.contains("does not become ready"), "{error}");
    }
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let error = start("c", "binary:///nonexistent/logger", "ns").await.err().unwrap();
    assert!(error.to_string().contains("/nonexistent/logger"));
}
