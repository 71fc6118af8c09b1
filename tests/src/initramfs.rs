//! Initial root file systems for guests that are to fail.

/// A cpio archive ("newc") with these executable files; folders of theirs are
/// made, and `/dev/console`, without which init has no output.
pub fn initramfs(files: &[(&str, &[u8])]) -> Vec<u8> {
    const DIRECTORY: u32 = 0o040_755;
    const EXECUTABLE: u32 = 0o100_755;
    const CONSOLE: u32 = 0o020_600;
    let mut archive = vec![];
    entry(&mut archive, "dev", DIRECTORY, (0, 0), &[]);
    entry(&mut archive, "bin", DIRECTORY, (0, 0), &[]);
    entry(&mut archive, "dev/console", CONSOLE, (5, 1), &[]);
    for (name, data) in files {
        entry(&mut archive, name, EXECUTABLE, (0, 0), data);
    }
    entry(&mut archive, "TRAILER!!!", 0, (0, 0), &[]);
    archive
}

fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
    let inode = u32::try_from(archive.len()).unwrap() + 1;
    let size = u32::try_from(data.len()).unwrap();
    let name_size = u32::try_from(name.len()).unwrap() + 1;
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
    archive.extend(b"070701");
    for field in fields {
        archive.extend(format!("{field:08x}").bytes());
    }
    archive.extend(name.bytes());
    archive.push(0);
    pad(archive);
    archive.extend(data);
    pad(archive);
}

/// Headers and data begin at multiples of 4.
fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}
