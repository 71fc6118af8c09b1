#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sandbox_vm_spec::VmSpec;
use sandbox_vm_spec::devices::DEVICES;
use sandbox_vm_spec::network::LinkSpec;

use super::*;

fn arguments_of(vm: &VmSpec, devices: Vec<(DeviceKind, RawFd)>) -> String {
    let arguments = Arguments {
        vm,
        accelerator: Accelerator::Tcg,
        tsc_khz: Some(2_400_000),
        kernel: "/fd/5".into(),
        initramfs: "/fd/6".into(),
        devices,
        tag: "share",
        link: Some(LinkSpec { mac: [2, 0, 0, 0, 0, 0xab], mtu: 1500 }),
    };
    let list: Vec<String> =
        arguments.list().into_iter().map(|a| a.into_string().unwrap()).collect();
    list.join(" ")
}

#[test]
fn the_command_line_holds_what_the_launch_message_asks_for() {
    let vm = VmSpec { vcpus: 4, memory_mib: 4096, cmdline: "extra=1".into() };
    let devices = DEVICES.iter().map(|device| device.kind).zip(10..).collect();
    let line = arguments_of(&vm, devices);
    for part in [
        "-m 4096M",
        "size=4096M,share=on",
        "-smp 4",
        " tsc_early_khz=2400000 tsc=reliable extra=1 ",
        "-kernel /fd/5",
        "-initrd /fd/6",
        "-chardev socket,id=backend0,fd=10 -device vhost-user-rng,chardev=backend0",
        "-device vhost-user-vsock-device,chardev=backend1",
        "-device vhost-user-fs-device,queue-size=1024,chardev=backend2,tag=share",
        "-chardev socket,id=backend3,path=/fd/13 -netdev vhost-user,id=net3,chardev=backend3 ",
        " -device virtio-net-device,ctrl_vq=off,",
        ",netdev=net3,mac=02:00:00:00:00:ab,host_mtu=1500",
        "fd=14 -device vhost-user-blk,num-queues=1,config-wce=off,queue-size=256,chardev=backend4",
    ] {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }
}

#[test]
fn names_that_would_smuggle_options_are_refused() {
    for tag in ["", "a,b", "a b", "é", "a=b", "a\0"] {
        assert!(arguments::checked_tag(tag).is_err(), "{tag:?}");
    }
    assert_eq!(arguments::checked_tag("share-1").unwrap(), "share-1");
    for name in ["", "hax", "tcg,thread=single", "kvm,foo"] {
        assert!(Accelerator::named(name).is_err(), "{name:?}");
    }
}

#[test]
fn a_qemu_of_ones_own_brings_its_folder() {
    let cases = [
        ("/usr/bin/qemu-system-x86_64", None),
        ("/opt/qemu/bin/qemu-system-x86_64", Some("/opt/qemu")),
        ("/opt/build/qemu-system-x86_64", Some("/opt/build")),
        ("/usr/local/bin/qemu-system-x86_64", None),
        ("/bin/qemu-system-x86_64", None),
    ];
    for (path, expected) in cases {
        assert_eq!(prefix(Path::new(path)), expected.map(PathBuf::from), "{path}");
    }
}
