#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn read_text(text: &[u8]) -> Result<Spec, BundleError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), text).unwrap();
    read(dir.path())
}

#[test]
fn what_is_wrong_names_the_file() {
    let missing = read(Path::new("/nonexistent")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("/nonexistent/config.json"));
    let broken = read_text(b"{\"process\": 7}").unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::InvalidArgument);
    let large = read_text(&vec![b' '; MAX_LEN as usize + 1]).unwrap_err();
    assert!(large.to_string().contains("bytes"));
}

#[test]
fn a_spec_is_read() {
    let spec = read_text(b"{\"ociVersion\":\"1.0.2\",\"hostname\":\"h\"}").unwrap();
    assert_eq!(spec.hostname().as_deref(), Some("h"));
}
