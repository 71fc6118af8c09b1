//! A root file system that is put together in the guest: images of file
//! systems as disks, and mounts in containerd's words on top of them
//! (its `docs/mounts.md`).
//!
//! containerd leaves to us what the shim says it does itself: mounts of the
//! type `erofs`, and the transforms `format` and `mkdir`. Images of ext4 come
//! from the snapshotters devmapper and blockfile.

mod template;

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use sandbox_agent_protocol::agent::{Directory, Mount};
use sandbox_agent_protocol::rootfs_point;

use super::MountError;
use super::rootfs::common_directory;
use crate::container::RootfsMount;
use template::{Active, Filled};

/// Option words of containerd that are no file system's.
const CONTAINERD: &str = "X-containerd.";
const MKDIR: &str = "X-containerd.mkdir.path=";
/// Default mode of a directory: containerd's.
const MODE: u32 = 0o700;
/// An option of overlays that comes for each layer, and one by which their marks
/// have names that users may set.
const LOWER: &str = "lowerdir+=";
const USERXATTR: &str = "userxattr";
/// File systems of images that the guest's kernel knows.
const OF_IMAGES: [&str; 4] = ["erofs", "ext2", "ext3", "ext4"];

/// What is had from the host, as a path of the guest.
pub(crate) trait Provide {
    /// A file or block device, as a disk.
    fn disk(&mut self, source: &Path, read_only: bool) -> Result<PathBuf, MountError>;
    /// A directory, in the share.
    fn bind_directory(&mut self, source: &Path) -> Result<PathBuf, MountError>;
    /// The same, for the writable layer of an overlay.
    fn upper(&mut self, source: &Path) -> Result<PathBuf, MountError>;
}

/// Whether the guest has to assemble these mounts, or can do it better.
pub(crate) fn is_for_guest(mounts: &[RootfsMount]) -> bool {
    mounts.iter().any(|mount| {
        mount.kind == "erofs" || mount.kind.contains('/') || is_image(mount) && mounts.len() == 1
    })
}

/// An image that the host would mount with its own file system.
fn is_image(mount: &RootfsMount) -> bool {
    let kind = fs::metadata(&mount.source).map(|metadata| metadata.file_type());
    let is_loop = mount.options.iter().any(|word| word == "loop");
    OF_IMAGES.contains(&mount.kind.as_str())
        && mount.target.trim_matches('/').is_empty()
        && kind.is_ok_and(|kind| kind.is_block_device() || is_loop && kind.is_file())
}

/// The mounts of `container`, as the guest is to make them.
pub(crate) fn assemble(
    mounts: &[RootfsMount],
    container: &str,
    provide: &mut dyn Provide,
) -> Result<Vec<Mount>, MountError> {
    let mut active = Vec::new();
    let mut made = Vec::new();
    for mount in mounts {
        let mut done = one(mount, &active, provide)?;
        if needs_two(&done) {
            let point = point(container, made.len());
            made.push(lowers_apart(&mut done, point));
        }
        active.push(Active { source: done.source.clone(), point: point(container, made.len()) });
        made.push(done);
    }
    Ok(made)
}

fn point(container: &str, index: usize) -> String {
    in_words(rootfs_point(container, index))
}

/// Whether an overlay reads marks of another name in its layers than it makes.
/// In images they have names that begin with `trusted.overlay.`; in the share
/// the guest can make none such (see [`overlay`]).
fn needs_two(mount: &Mount) -> bool {
    let has = |start: &str| mount.options.iter().filter(|word| word.starts_with(start)).count();
    has(USERXATTR) == 1 && has(LOWER) > 1
}

/// An overlay of the layers alone, to be mounted at `point` before `mount`,
/// which has it as its only one below.
fn lowers_apart(mount: &mut Mount, point: String) -> Mount {
    let words = std::mem::take(&mut mount.options).into_iter();
    let (mut lowers, others): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with(LOWER));
    lowers.push("ro".to_owned());
    mount.options = others;
    mount.options.push(format!("{LOWER}{point}"));
    let (kind, source) = (mount.type_.clone(), mount.source.clone());
    Mount { type_: kind, source, options: lowers, ..Default::default() }
}

/// Whether a container can write to what the last of the mounts makes.
pub(crate) fn is_writable(mounts: &[Mount]) -> bool {
    mounts.last().is_some_and(|mount| {
        let words = || mount.options.iter();
        let can_write = mount.type_ != "overlay" || words().any(|w| w.starts_with("upperdir="));
        can_write && mount.type_ != "erofs" && !words().any(|word| word == "ro")
    })
}

fn one(
    mount: &RootfsMount,
    active: &[Active],
    provide: &mut dyn Provide,
) -> Result<Mount, MountError> {
    let refused = |why: String| MountError::Assembly {
        kind: mount.kind.clone(),
        from: mount.source.clone(),
        why,
    };
    if !mount.target.trim_matches('/').is_empty() {
        return Err(refused(format!("it has a target of its own, {:?}", mount.target)));
    }
    let words: Vec<&str> = mount.kind.split('/').collect();
    let (kind, transforms) = words.split_last().ok_or_else(|| refused("no type".to_owned()))?;
    let mut formats = false;
    for transform in transforms {
        match *transform {
            "format" => formats = true,
            "mkdir" => {}
            other => return Err(refused(format!("{other:?} is containerd's to do"))),
        }
    }
    let fill = |text: &str| {
        if formats { template::fill(text, active).map_err(&refused) } else { Ok(text.into()) }
    };
    let source = fill(&mount.source)?;
    let mut options = Vec::new();
    let mut directories = Vec::new();
    for word in &mount.options {
        let word = fill(word)?;
        if let Some(asked) = word.text.strip_prefix(MKDIR) {
            directories.push(directory(asked, word.of_guest).map_err(&refused)?);
        } else if word.text.starts_with(CONTAINERD) {
            return Err(refused(format!("the option {:?} is not known", word.text)));
        } else if !matches!(word.text.as_str(), "" | "loop" | "defaults" | "rw") {
            options.push(word);
        }
    }
    let (kind, source, options) = match *kind {
        kind if OF_IMAGES.contains(&kind) => image(kind, &source, options, provide)?,
        "overlay" => overlay(options, provide)?,
        "bind" => bind(source, options, provide)?,
        other => return Err(refused(format!("the guest has no file system {other:?}"))),
    };
    Ok(Mount { type_: kind, source, options, directories, ..Default::default() })
}

type Parts = (String, String, Vec<String>);

fn image(
    kind: &str,
    source: &Filled,
    options: Vec<Filled>,
    provide: &mut dyn Provide,
) -> Result<Parts, MountError> {
    let read_only = kind == "erofs" || options.iter().any(|word| word.text == "ro");
    let mut disk = |path: &Filled| match path.of_guest {
        true => Ok(path.text.clone()),
        false => provide.disk(Path::new(&path.text), read_only).map(in_words),
    };
    let source = disk(source)?;
    let mut words = Vec::new();
    for word in options {
        words.push(match word.text.strip_prefix("device=") {
            // A further part of an erofs image.
            Some(path) => {
                let path = Filled { text: path.to_owned(), of_guest: word.of_guest };
                format!("device={}", disk(&path)?)
            }
            None => word.text,
        });
    }
    // The kernel's driver of ext4 has the older two, by its own name.
    let kind = if kind.starts_with("ext") { "ext4" } else { kind };
    if read_only && !words.iter().any(|word| word == "ro") {
        words.push("ro".to_owned());
    }
    Ok((kind.to_owned(), source, words))
}

fn overlay(options: Vec<Filled>, provide: &mut dyn Provide) -> Result<Parts, MountError> {
    let mut writes_to_share = false;
    let upper = value(&options, "upperdir=");
    let work = value(&options, "workdir=");
    // Both must be seen on one mount.
    let above = match (upper, work) {
        (Some(upper), Some(work)) => common_directory([upper, work].into_iter()),
        _ => None,
    };
    let above = match above {
        Some(host) => Some((provide.upper(&host)?, host)),
        None => None,
    };
    let mut words = Vec::new();
    for word in options {
        let (key, paths) = word.text.split_once('=').unwrap_or((&word.text, ""));
        match key {
            "lowerdir" => {
                for path in paths.split(':') {
                    let path = match word.of_guest {
                        true => path.to_owned(),
                        false => in_words(provide.bind_directory(Path::new(path))?),
                    };
                    words.push(format!("{LOWER}{path}"));
                }
            }
            "upperdir" | "workdir" if !word.of_guest => {
                writes_to_share = true;
                let path = match &above {
                    Some((guest, host)) => {
                        guest.join(Path::new(paths).strip_prefix(host).unwrap_or(Path::new("")))
                    }
                    None => provide.upper(Path::new(paths))?,
                };
                words.push(format!("{key}={}", in_words(path)));
            }
            _ => words.push(word.text),
        }
    }
    if writes_to_share && !words.iter().any(|word| word == USERXATTR) {
        // The file server of the share may not write attributes of the name
        // trusted, with which it could do more than act for the guest's users.
        words.push(USERXATTR.to_owned());
    }
    Ok(("overlay".to_owned(), "overlay".to_owned(), words))
}

fn bind(
    source: Filled,
    options: Vec<Filled>,
    provide: &mut dyn Provide,
) -> Result<Parts, MountError> {
    let path = match source.of_guest {
        true => source.text,
        false => in_words(provide.bind_directory(Path::new(&source.text))?),
    };
    Ok(("bind".to_owned(), path, options.into_iter().map(|word| word.text).collect()))
}

/// The host's path in an option.
fn value<'a>(options: &'a [Filled], key: &str) -> Option<&'a str> {
    options.iter().filter(|word| !word.of_guest).find_map(|word| word.text.strip_prefix(key))
}

fn in_words(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

/// `path[:mode[:uid[:gid]]]`.
fn directory(asked: &str, of_guest: bool) -> Result<Directory, String> {
    let bad = || format!("the directory {asked:?} is not path:mode:uid:gid");
    if !of_guest {
        return Err(format!("the directory {asked:?} is not in one of its mounts"));
    }
    let mut parts = asked.split(':');
    let path = parts.next().unwrap_or_default().to_owned();
    let mut number = |radix, missing| match parts.next() {
        None => Ok(missing),
        Some(part) => u32::from_str_radix(part, radix).map_err(|_| bad()),
    };
    let (mode, uid, gid) = (number(8, MODE)?, number(10, 0)?, number(10, 0)?);
    if parts.next().is_some() {
        return Err(bad());
    }
    Ok(Directory { path, mode, uid, gid, ..Default::default() })
}

#[cfg(test)]
mod tests;
