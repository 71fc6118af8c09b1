#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[test]
fn overlay_options_go_to_the_file_system() {
    let words = ["index=off", "workdir=/w", "upperdir=/u", "lowerdir=/a:/b", "ro"];
    let options = Options::parse(words);
    assert_eq!(options.flags, MountFlags::RDONLY);
    assert_eq!(options.data, words[..4]);
    assert_eq!(options.bind, None);
}

#[test]
fn later_words_win() {
    let options = Options::parse(["ro", "nosuid", "rw", "bind", "rbind", "rprivate", "rslave"]);
    assert_eq!(options.flags, MountFlags::NOSUID);
    assert_eq!(options.bind, Some(true));
    let rslave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    assert_eq!(options.propagation, Some(rslave));
    assert!(options.data.is_empty());
}

#[test]
fn loop_is_no_option_of_the_file_system() {
    let options = Options::parse(["loop", "defaults"]);
    assert!(options.looped);
    assert!(options.data.is_empty());
}

#[test]
fn rro_makes_the_mount_and_those_below_it_read_only() {
    let options = Options::parse(["rbind", "rro"]);
    assert_eq!((options.flags, options.rro), (MountFlags::RDONLY, true));
    assert!(options.data.is_empty());
    let options = Options::parse(["rro", "rrw"]);
    assert_eq!((options.flags, options.rro), (MountFlags::empty(), false));
}
