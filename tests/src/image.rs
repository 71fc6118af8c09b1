//! The image that the tests run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::paths;

/// Name of the image in every bed.
pub const NAME: &str = "localhost/sandbox/test:1";

/// Where the image's tar is for this run of the tests; made once by
/// [`make`], named to the tests' processes by this variable.
pub const VARIABLE: &str = "SANDBOX_TEST_IMAGE";

/// Makes the image in `dir`.
pub fn make(dir: &Path) -> PathBuf {
    let out = dir.join("image.tar");
    let toolbox = paths::toolbox();
    assert!(toolbox.exists(), "{} is missing: make toolbox", toolbox.display());
    let status = Command::new(paths::tree().join("deploy/demo/make-image.sh"))
        .arg(&out)
        .arg(NAME)
        .arg("--add")
        .arg(format!("{}:bin/toolbox", toolbox.display()))
        .status()
        .unwrap();
    assert!(status.success(), "make-image.sh: {status}");
    out
}

/// Unpacks the image's only layer to `root`, for bundles made by hand.
pub fn unpack(image: &Path, root: &Path) {
    let scratch = tempfile::tempdir_in(root.parent().unwrap()).unwrap();
    tar(&["-xf", image.to_str().unwrap(), "-C", scratch.path().to_str().unwrap()]);
    let blobs = fs::read_dir(scratch.path().join("blobs/sha256")).unwrap();
    let layer =
        blobs.map(|entry| entry.unwrap().path()).max_by_key(|path| path.metadata().unwrap().len());
    fs::create_dir_all(root).unwrap();
    tar(&["-xpf", layer.unwrap().to_str().unwrap(), "-C", root.to_str().unwrap()]);
}

fn tar(arguments: &[&str]) {
    let status = Command::new("tar").args(arguments).status().unwrap();
    assert!(status.success(), "tar {arguments:?}: {status}");
}
