//! The file system that the container's root and its mounts are on.

use std::fs;

use sandbox_tests::{Bed, spec, tests};

tests![
    Any files_behave_on_the_root,
    Any files_behave_on_a_bind_mount,
    Any links_and_dots_lead_to_the_containers_own_files,
    Any swapping_a_folder_for_a_link_leaks_nothing,
    Any host_and_container_see_each_others_changes,
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
    let bind = sandbox_tests::mount("/data", "bind", dir.to_str().unwrap(), &["rbind", "rw"]);
    spec["mounts"].as_array_mut().unwrap().push(bind);
    let out = std::thread::scope(|scope| {
        let run = scope.spawn(|| bed.run_spec("a", spec, &[]));
        sandbox_tests::until("the container's file", std::time::Duration::from_secs(30), || {
            fs::metadata(dir.join("up")).ok()
        });
        fs::write(dir.join("down.new"), "from the host").unwrap();
        fs::rename(dir.join("down.new"), dir.join("down")).unwrap();
        run.join().unwrap()
    });
    assert_eq!(out.ok().text(), "from the host");
}
