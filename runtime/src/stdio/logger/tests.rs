#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

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
    let script = dir.path().join("logger");
    let text = "#!/bin/sh\nexec 5>&-\n(echo \"$CONTAINER_NAMESPACE/$CONTAINER_ID $1=$2\"; cat <&3; \
                cat <&4) >\"$2.new\"\nmv \"$2.new\" \"$2\"\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let uri = format!("binary://{}?log={}", script.display(), out.display());
    let (mut stdout, mut stderr) = start("c", &uri, "ns").await.unwrap();
    stdout.write(b"one\n").await.unwrap();
    stderr.write(b"two\n").await.unwrap();
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

#[tokio::test]
async fn a_missing_program_is_named() {
    let error = start("c", "binary:///nonexistent/logger", "ns").await.err().unwrap();
    assert!(error.to_string().contains("/nonexistent/logger"));
}
