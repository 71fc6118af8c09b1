//! The file system that the container's root and its mounts are on.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use sandbox_tests::{Bed, mount, spec, tests, until};
use serde_json::json;

tests![
    Any files_behave_on_the_root,
    Any files_behave_on_a_bind_mount,
    Any rro_makes_the_mounts_below_read_only,
    Any links_and_dots_lead_to_the_containers_own_files,
    Any swapping_a_folder_for_a_link_leaks_nothing,
    Any host_and_container_see_each_others_changes,
    Ours setuid_works_in_the_guest_and_no_mount_of_the_host_has_devices,
];

fn files_behave_on_the_root(bed: &Bed) {
    let out = bed.run("a").shell("mkdir /battery && exec toolbox files /battery").ok();
    assert!(out.text().lines().count() >= 15, "{}", out.text());
}

fn files_behave_on_a_bind_mount(bed: &Bed) {
    let dir = bed.dir().join("data");
    fs::create_dir(&dir).unwrap();
    let flag = format!("--mount=type=bind,src={},dst=/data,options=rbind:rw", dir.display());
    bed.run("a").flags(&[flag]).foreground(&["toolbox", "files", "/data"]).ok();
}

/// A mount below the source is another one on the host and in the guest.
fn rro_makes_the_mounts_below_read_only(bed: &Bed) {
    let dir = bed.dir().join("data");
    fs::create_dir_all(dir.join("inner")).unwrap();
    let inner = Inner::mount(dir.join("inner"));
    let flag = format!("--mount=type=bind,src={},dst=/data,options=rbind:rro", dir.display());
    let line = "for f in /data/file /data/inner/file; do echo x >$f; done 2>&1; ls /data/inner";
    let out = bed.run("a").flags(&[flag]).shell(line).ok();
    assert_eq!(out.text().matches("Read-only file system").count(), 2, "{}", out.text());
    fs::write(inner.0.join("file"), "").expect("the source stays writable");
}

/// A tmpfs of the host.
struct Inner(std::path::PathBuf);

impl Inner {
    fn mount(point: std::path::PathBuf) -> Self {
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&point)
            .status()
            .unwrap();
        assert!(done.success());
        Self(point)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// R49: a file beside the container's root on the host stays out of reach.
fn links_and_dots_lead_to_the_containers_own_files(bed: &Bed) {
    let secret = bed.dir().join("secret");
    fs::write(&secret, "of the host").unwrap();
    let path = secret.display();
    let up = "../".repeat(20);
    let line = format!(
        "ln -s {path} /absolute; ln -s {up}{path} /relative; ln -s /proc/1/root{path} /proc-root; \
         cd /; for f in /absolute /relative /proc-root {path} {up}{path}; do cat $f; done; \
         ls {up}"
    );
    let out = bed.run("a").shell(&line).ok();
    assert!(!out.text().contains("of the host"), "{}", out.text());
    assert_eq!(out.errors().matches("No such file").count(), 5, "{}", out.errors());
    assert!(out.text().contains("proc"), "`..` of the root is the root: {}", out.text());
}

/// R49: a name that is a folder at one moment and a link out at the next.
fn swapping_a_folder_for_a_link_leaks_nothing(bed: &Bed) {
    let (data, outside) = (bed.dir().join("data"), bed.dir().join("outside"));
    for dir in [&data, &outside] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(outside.join("secret"), "of the host").unwrap();
    let flag = format!("--mount=type=bind,src={},dst=/data,options=rbind:rw", data.display());
    let words = ["toolbox", "swap", "/data", outside.to_str().unwrap()];
    let out = bed.run("a").flags(&[flag]).foreground(&words).ok();
    assert_eq!(out.text(), "done");
}

/// What the host writes during the container's life is seen by it, and the
/// other way round.
fn host_and_container_see_each_others_changes(bed: &Bed) {
    let dir = bed.dir().join("data");
    fs::create_dir(&dir).unwrap();
    let mut spec = spec(&[
        "sh",
        "-c",
        "echo 1 >/data/up; while ! test -s /data/down; do usleep 20000; done; \
                                       cat /data/down",
    ]);
    let bind = mount("/data", "bind", dir.to_str().unwrap(), &["rbind", "rw"]);
    spec["mounts"].as_array_mut().unwrap().push(bind);
    let out = std::thread::scope(|scope| {
        let run = scope.spawn(|| bed.run_spec("a", spec, &[]));
        until("the container's file", Duration::from_secs(30), || {
            fs::metadata(dir.join("up")).ok()
        });
        fs::write(dir.join("down.new"), "from the host").unwrap();
        fs::rename(dir.join("down.new"), dir.join("down")).unwrap();
        run.join().unwrap()
    });
    assert_eq!(out.ok().text(), "from the host");
}

/// The fs process has CAP_MKNOD, so every mount that it sees is `nodev`, and
/// `nosuid,noexec` with it; the guest does not see these flags.
fn setuid_works_in_the_guest_and_no_mount_of_the_host_has_devices(bed: &Bed) {
    let root = bed.rootfs("a");
    let (programs, private) = (bed.dir().join("programs"), bed.dir().join("private"));
    for dir in [&programs, &private, &private.join("1"), &private.join("2")] {
        fs::create_dir(dir).unwrap();
    }
    fs::set_permissions(&private, Permissions::from_mode(0o700)).unwrap();
    for program in [root.join("bin/as-root"), programs.join("as-root")] {
        fs::copy(root.join("bin/toolbox"), &program).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
    }
    let line = "ls /private || /bin/as-root files /private/1 && \
                /programs/as-root files /private/2 && echo done; exec sleep 1000";
    let mut spec = spec(&["sh", "-c", line]);
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    spec["process"]["noNewPrivileges"] = json!(false);
    for (at, dir) in [("/programs", &programs), ("/private", &private)] {
        let bind = mount(at, "bind", dir.to_str().unwrap(), &["rbind", "rw"]);
        spec["mounts"].as_array_mut().unwrap().push(bind);
    }
    let shim = bed.shim("a", spec);
    let out = bed.dir().join("out");
    let mut request = shim.request(root);
    request.stdout = format!("file://{}", out.display());
    shim.create(&request).unwrap();
    shim.rpc().start().unwrap();
    until("both programs to end", Duration::from_secs(30), || {
        fs::read_to_string(&out).is_ok_and(|text| text.ends_with("done\n")).then_some(())
    });

    let pid = shim.rpc().connect().unwrap().shim_pid;
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let state = bed.state_dir().display().to_string();
    let fields = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let below: Vec<_> = fields.filter(|fields| fields[4].starts_with(&state)).collect();
    assert_eq!(below.len(), 5, "share, root, two volumes and resolv.conf: {below:?}");
    for fields in below {
        let flags: Vec<&str> = fields[5].split(',').collect();
        for flag in ["nodev", "nosuid", "noexec"] {
            assert!(flags.contains(&flag), "{} has {flags:?}", fields[4]);
        }
    }
    shim.rpc().kill(9, true).unwrap();
    shim.rpc().wait().unwrap();
    shim.rpc().delete().unwrap();
    shim.shutdown();
}
