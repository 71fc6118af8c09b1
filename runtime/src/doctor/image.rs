use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Check, Host};
use crate::config::Config;

/// What builds and installs the guest image.
const BUILD: &str = "make guest install";

/// Digits of a hash that people see.
const SHORT: usize = 12;

/// What the build wrote of a file.
#[derive(Deserialize)]
struct Entry {
    sha256: String,
    release: Option<String>,
}

/// The manifest beside the kernel: file name to what it must be.
type Manifest = HashMap<String, Entry>;

/// The guest's kernel and initramfs, against the manifest of their build.
pub(super) fn checks(host: &Host, config: &Config) -> [Check; 2] {
    let path = config.kernel.with_file_name("manifest.json");
    let manifest = manifest(host, &path);
    [
        file(host, "guest kernel", &config.kernel, &path, &manifest),
        file(host, "guest initramfs", &config.initramfs, &path, &manifest),
    ]
}

fn manifest(host: &Host, path: &Path) -> io::Result<Manifest> {
    serde_json::from_str(&host.read(path)?).map_err(io::Error::other)
}

fn file(
    host: &Host,
    name: &'static str,
    path: &Path,
    manifest_path: &PathBuf,
    manifest: &io::Result<Manifest>,
) -> Check {
    let shown = path.display();
    let (hash, bytes) = match host.sha256(path) {
        Ok(found) => found,
        Err(error) => return Check::missing(name, format!("{shown}: {error}")).fix(BUILD),
    };
    let short = hash.get(..SHORT).unwrap_or(&hash);
    let check = match expected(path, manifest) {
        Err(error) => Check::warning(
            name,
            format!("{shown} is there, but not whether it is as built: {manifest_path:?}: {error}"),
        )
        .fix(BUILD),
        Ok(entry) if entry.sha256 != hash => Check::missing(
            name,
            format!("{shown} is not as it was built: {short}... is not what the manifest says"),
        )
        .fix(BUILD),
        Ok(entry) => {
            let check = |release: &str| format!("{shown}{release}, sha256 {short}...");
            match &entry.release {
                Some(release) => {
                    Check::ok(name, check(&format!(" {release}"))).fact("release", release)
                }
                None => Check::ok(name, check("")),
            }
        }
    };
    check.fact("path", &shown.to_string()).fact("sha256", &hash).fact("bytes", &bytes.to_string())
}

fn expected<'a>(path: &Path, manifest: &'a io::Result<Manifest>) -> Result<&'a Entry, String> {
    let manifest = manifest.as_ref().map_err(ToString::to_string)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    manifest.get(name.as_ref()).ok_or_else(|| format!("it does not name {name}"))
}
