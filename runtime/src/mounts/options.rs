//! Mount options as mount(8) and containerd write them.

use rustix::mount::{MountFlags, MountPropagationFlags};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Those that mount(2) takes as flags.
    pub flags: MountFlags,
    /// `bind` or `rbind`, the latter being true.
    pub bind: Option<bool>,
    /// How mounts spread from and to the source.
    pub propagation: Option<MountPropagationFlags>,
    /// `loop`: the source is a file to be had as a block device.
    pub looped: bool,
    /// `rro`: every mount below the source is read-only, too.
    pub rro: bool,
    /// The rest, for the file system.
    pub data: Vec<String>,
}

impl Options {
    /// Later words win over earlier ones.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut options = Self {
            flags: MountFlags::empty(),
            bind: None,
            propagation: None,
            looped: false,
            rro: false,
            data: Vec::new(),
        };
        for word in words {
            options.add(word);
        }
        options
    }

    fn add(&mut self, word: &str) {
        if let Some((flag, set)) = flag(word) {
            self.flags.set(flag, set);
        } else if let Some(propagation) = propagation(word) {
            self.propagation = Some(propagation);
        } else {
            match word {
                "" | "defaults" | "async" => {}
                "bind" => self.bind = Some(false),
                "rbind" => self.bind = Some(true),
                "loop" => self.looped = true,
                "rro" | "rrw" => {
                    self.rro = word == "rro";
                    self.flags.set(MountFlags::RDONLY, self.rro);
                }
                other => self.data.push(other.to_owned()),
            }
        }
    }
}

/// The flag that a word sets or clears.
fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "dirsync" => (MountFlags::DIRSYNC, true),
        _ => return None,
    })
}

fn propagation(word: &str) -> Option<MountPropagationFlags> {
    Some(match word {
        "private" => MountPropagationFlags::PRIVATE,
        "rprivate" => MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "rslave" => MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
        "shared" => MountPropagationFlags::SHARED,
        "rshared" => MountPropagationFlags::SHARED | MountPropagationFlags::REC,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        "runbindable" => MountPropagationFlags::UNBINDABLE | MountPropagationFlags::REC,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
