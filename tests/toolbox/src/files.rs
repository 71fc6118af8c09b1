//! What a file system owes to the programs on it.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, hard_link};
use std::io::{Read, Seek, Write, stdout};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FallocateFlags, Flock, FlockArg, RenameFlags, fallocate, renameat2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::statvfs::statvfs;
use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};

/// Uses the empty folder that it is given.
type Check = fn(&Path) -> Result<()>;

/// Does all of it in `dir`, which must be empty, and names the first thing
/// that is not as it is on a local file system.
pub fn check(dir: &Path) -> Result<()> {
    let checks: &[(&str, Check)] = &[
        ("symlinks", symlinks),
        ("xattrs", attributes),
        ("rename", renames),
        ("unlink while open", unlink_while_open),
        ("hard links", hard_links),
        ("mknod", nodes),
        ("flock", locks),
        ("fallocate", allocation),
        ("statfs", space),
        ("owner", owner),
        ("mode", mode),
        ("append and truncate", append_and_truncate),
        ("times", times),
        ("many files", many_files),
        ("large write", large_write),
    ];
    for (name, check) in checks {
        let place = dir.join(name.replace(' ', "-"));
        fs::create_dir(&place).with_context(|| format!("{name}: mkdir"))?;
        check(&place).with_context(|| (*name).to_owned())?;
        writeln!(stdout(), "ok {name}")?;
    }
    Ok(())
}

fn symlinks(dir: &Path) -> Result<()> {
    for target in ["target", "../../../../etc/passwd", "/etc/passwd", "nowhere"] {
        let link = dir.join("link");
        symlink(target, &link)?;
        ensure!(fs::read_link(&link)? == Path::new(target), "readlink does not give {target}");
        ensure!(fs::symlink_metadata(&link)?.is_symlink(), "lstat does not say symlink");
        fs::remove_file(&link)?;
    }
    fs::write(dir.join("target"), "text")?;
    symlink("target", dir.join("link"))?;
    ensure!(fs::read_to_string(dir.join("link"))? == "text", "read through the link");
    Ok(())
}

fn attributes(dir: &Path) -> Result<()> {
    let path = dir.join("file");
    fs::write(&path, "")?;
    let mut value = [0; 64];
    setxattr(&path, "user.colour", b"red\0blue", XattrFlags::CREATE)?;
    let length = getxattr(&path, "user.colour", &mut value)?;
    ensure!(value[..length] == *b"red\0blue", "value {:?}", &value[..length]);
    let again = setxattr(&path, "user.colour", b"", XattrFlags::CREATE);
    ensure!(again == Err(rustix::io::Errno::EXIST), "created twice: {again:?}");
    let length = listxattr(&path, &mut value)?;
    ensure!(value[..length].windows(12).any(|name| name == b"user.colour\0"), "not in the list");
    removexattr(&path, "user.colour")?;
    let gone = getxattr(&path, "user.colour", &mut value);
    ensure!(gone == Err(rustix::io::Errno::NODATA), "after removal: {gone:?}");
    Ok(())
}

fn renames(dir: &Path) -> Result<()> {
    let (a, b, sub) = (dir.join("a"), dir.join("b"), dir.join("sub"));
    fs::write(&a, "a")?;
    fs::write(&b, "b")?;
    fs::rename(&a, &b)?;
    ensure!(fs::read_to_string(&b)? == "a" && !a.exists(), "rename does not replace");
    fs::create_dir(&sub)?;
    fs::rename(&b, sub.join("c"))?;
    fs::rename(&sub, dir.join("moved"))?;
    ensure!(fs::read_to_string(dir.join("moved/c"))? == "a", "rename of a folder");
    let refused = fs::rename(dir.join("moved"), dir.join("moved/inside"));
    ensure!(refused.is_err(), "a folder can be moved into itself");
    Ok(())
}

fn unlink_while_open(dir: &Path) -> Result<()> {
    let path = dir.join("gone");
    let mut file = OpenOptions::new().create_new(true).read(true).write(true).open(&path)?;
    file.write_all(b"before ")?;
    fs::remove_file(&path)?;
    file.write_all(b"after")?;
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    ensure!(text == "before after", "reads {text:?}");
    ensure!(file.metadata()?.nlink() == 0, "the link count is {}", file.metadata()?.nlink());
    ensure!(!path.exists(), "the name is still there");
    Ok(())
}

fn hard_links(dir: &Path) -> Result<()> {
    let (one, two) = (dir.join("one"), dir.join("two"));
    fs::write(&one, "1")?;
    hard_link(&one, &two)?;
    fs::write(&two, "2")?;
    ensure!(fs::read_to_string(&one)? == "2", "two names, two files");
    ensure!(one.metadata()?.ino() == two.metadata()?.ino(), "inode numbers differ");
    ensure!(one.metadata()?.nlink() == 2, "the link count is {}", one.metadata()?.nlink());
    Ok(())
}

fn nodes(dir: &Path) -> Result<()> {
    let all = Mode::from_bits_truncate(0o644);
    mknod(&dir.join("fifo"), SFlag::S_IFIFO, all, 0).context("FIFO")?;
    mknod(&dir.join("null"), SFlag::S_IFCHR, all, makedev(1, 3)).context("character device")?;
    mknod(&dir.join("file"), SFlag::S_IFREG, all, 0).context("file")?;
    let null = fs::metadata(dir.join("null"))?;
    ensure!(null.rdev() == makedev(1, 3), "device number {:#x}", null.rdev());
    Ok(())
}

fn locks(dir: &Path) -> Result<()> {
    let path = dir.join("lock");
    let first = Flock::lock(File::create(&path)?, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
    match Flock::lock(File::open(&path)?, FlockArg::LockSharedNonblock) {
        Err((_, Errno::EWOULDBLOCK)) => {}
        Err((_, other)) => anyhow::bail!("the second lock fails with {other}"),
        Ok(_) => anyhow::bail!("two hold an exclusive lock"),
    }
    drop(first);
    Flock::lock(File::open(&path)?, FlockArg::LockSharedNonblock).map_err(|(_, e)| e)?;
    Ok(())
}

fn allocation(dir: &Path) -> Result<()> {
    let file = File::create(dir.join("file"))?;
    fallocate(&file, FallocateFlags::empty(), 0, 1 << 20)?;
    ensure!(file.metadata()?.len() == 1 << 20, "length {}", file.metadata()?.len());
    ensure!(file.metadata()?.blocks() * 512 >= 1 << 20, "{} blocks", file.metadata()?.blocks());
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, hole, 0, 1 << 19)?;
    ensure!(file.metadata()?.len() == 1 << 20, "a hole changes the length");
    Ok(())
}

fn space(dir: &Path) -> Result<()> {
    let found = statvfs(dir)?;
    ensure!(found.blocks() > 0 && found.blocks_free() <= found.blocks(), "{found:?}");
    ensure!(found.name_max() == 255, "names of at most {}", found.name_max());
    Ok(())
}

fn owner(dir: &Path) -> Result<()> {
    let path = dir.join("file");
    fs::write(&path, "")?;
    chown(&path, Some(1234), Some(4321))?;
    let found = path.metadata()?;
    ensure!((found.uid(), found.gid()) == (1234, 4321), "{}:{}", found.uid(), found.gid());
    Ok(())
}

fn mode(dir: &Path) -> Result<()> {
    let path = dir.join("file");
    fs::write(&path, "")?;
    for bits in [0o600, 0o755, 0o000, 0o4755, 0o2755] {
        fs::set_permissions(&path, fs::Permissions::from_mode(bits))?;
        let found = path.metadata()?.mode() & 0o7777;
        ensure!(found == bits, "{bits:o} became {found:o}");
    }
    // A write by one without CAP_FSETID takes set-user-ID away; the tests
    // give that capability, so here only the folder's sticky bit is left.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o1777))?;
    ensure!(dir.metadata()?.mode() & 0o7777 == 0o1777, "sticky bit");
    Ok(())
}

fn append_and_truncate(dir: &Path) -> Result<()> {
    let path = dir.join("log");
    for line in ["one\n", "two\n"] {
        OpenOptions::new().create(true).append(true).open(&path)?.write_all(line.as_bytes())?;
    }
    ensure!(fs::read_to_string(&path)? == "one\ntwo\n", "appended lines");
    OpenOptions::new().write(true).open(&path)?.set_len(5)?;
    ensure!(fs::read_to_string(&path)? == "one\nt", "truncated text");
    Ok(())
}

fn times(dir: &Path) -> Result<()> {
    let file = File::create(dir.join("file"))?;
    let then = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    file.set_modified(then)?;
    ensure!(file.metadata()?.modified()? == then, "mtime");
    Ok(())
}

fn many_files(dir: &Path) -> Result<()> {
    for number in 0..500 {
        fs::write(dir.join(number.to_string()), number.to_string())?;
    }
    let names = fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    ensure!(names.len() == 500, "{} names", names.len());
    ensure!(fs::read_to_string(dir.join("499"))? == "499", "text of the last");
    fs::remove_dir_all(dir)?;
    Ok(())
}

fn large_write(dir: &Path) -> Result<()> {
    let path = dir.join("file");
    let data: Vec<u8> = (0..8 << 20).map(crate::digest::pattern).collect();
    fs::write(&path, &data)?;
    File::open(&path)?.sync_all()?;
    ensure!(fs::read(&path)? == data, "8 MiB do not come back as they were");
    Ok(())
}

/// Swaps a folder and a link to `outside` for each other as fast as it goes,
/// while reading `secret` through the name: prints what was read other than
/// the folder's own "inside", which must be nothing.
pub fn swap(dir: &Path, outside: &OsStr) -> Result<()> {
    fs::create_dir(dir.join("real"))?;
    fs::write(dir.join("real/secret"), "inside")?;
    symlink(outside, dir.join("link"))?;
    let end = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < end {
                exchange(&dir.join("real"), &dir.join("link"));
            }
        });
        while Instant::now() < end {
            match fs::read_to_string(dir.join("real/secret")) {
                Ok(text) if text != "inside" => drop(writeln!(stdout(), "read {text:?}")),
                _ => {}
            }
        }
    });
    writeln!(stdout(), "done")?;
    Ok(())
}

fn exchange(a: &Path, b: &Path) {
    // A round in which it fails is a round without a swap.
    let _ = renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE);
}
