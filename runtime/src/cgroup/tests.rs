#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn path(spec: &str) -> String {
    relative_path(spec).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn plain_and_systemd_paths() {
    assert_eq!(path("/default/demo"), "default/demo");
    assert_eq!(path("kubepods/pod1/./x"), "kubepods/pod1/x");
    assert_eq!(
        path("kubepods-besteffort-pod1.slice:cri-containerd:abc"),
        "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/\
         cri-containerd-abc.scope"
    );
    assert_eq!(path("system.slice:nerdctl:x"), "system.slice/nerdctl-x.scope");
    assert_eq!(path(":nerdctl:x"), "system.slice/nerdctl-x.scope");
    assert_eq!(path("-.slice::x"), "x.scope");
    assert_eq!(path("a.slice::b.slice"), "a.slice/b.slice");
}

#[test]
fn paths_that_climb_are_refused_by_name() {
    for spec in [
        "",
        "/",
        "../x",
        "/a/../../b",
        "a\0b",
        "a.slice:p:../x",
        "a/b.slice:p:n",
        "no:p:n",
        "a.slice:p:",
    ] {
        let error = relative_path(spec).unwrap_err();
        assert!(matches!(error, CgroupError::Path(ref named) if named == spec), "{spec:?}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn only_cgroups_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    remove_created(&[dir.path().to_owned()]);
    assert!(dir.path().exists());
    assert!(members(&[dir.path().to_owned()]).is_empty());
    let roots = [PathBuf::from("/sys/fs/cgroup")].into();
    assert!(is_cgroup(Path::new("/sys/fs/cgroup/a"), &roots));
    assert!(!is_cgroup(Path::new("/sys/fs/cgroup"), &roots));
    assert!(!is_cgroup(Path::new("/sys/fs/cgroup/../../etc"), &roots));
}

#[test]
fn a_process_joins_and_all_is_removed() {
    let name = format!("sandbox-test-{}", std::process::id());
    let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    let cgroup = match Cgroup::create(&Path::new(&name).join("pod")) {
        Ok(cgroup) => cgroup,
        Err(error) => {
            child.kill().unwrap();
            child.wait().unwrap();
            // A machine that gives no cgroups to its root user: pods run without.
            assert!(matches!(error, CgroupError::Fs { .. }), "{error}");
            return;
        }
    };
    cgroup.join(child.id()).unwrap();
    assert_eq!(members(cgroup.created()), [child.id()]);
    let own = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    assert!(own.contains(&format!("/{name}/pod")), "{own}");
    assert!(cgroup.created().iter().all(|dir| is_marked(dir)), "{:?}", cgroup.created());
    child.kill().unwrap();
    child.wait().unwrap();
    cgroup.remove();
    assert!(cgroup.created().iter().all(|dir| !dir.exists()));
    assert!(!cgroup.created().is_empty());
}

/// Two pods below one parent, where the one that made it ends first.
#[test]
fn the_last_pod_takes_the_parent_away() {
    let parent = PathBuf::from(format!("sandbox-parent-{}", std::process::id()));
    let Ok(first) = Cgroup::create(&parent.join("first")) else { return };
    let second = Cgroup::create(&parent.join("second")).unwrap();
    assert!(!second.created().iter().any(|dir| dir.ends_with(&parent)), "made by the first");
    let parents: Vec<&PathBuf> =
        first.created().iter().filter(|dir| dir.ends_with(&parent)).collect();
    assert!(!parents.is_empty());
    first.remove();
    assert!(parents.iter().all(|dir| dir.is_dir()), "in use");
    second.remove();
    let left: Vec<_> = parents.iter().filter(|dir| dir.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A parent that was there before stays, empty or not.
#[test]
fn a_parent_that_no_pod_made_stays() {
    let roots = roots();
    let parent = PathBuf::from(format!("sandbox-foreign-{}", std::process::id()));
    let before: Vec<PathBuf> = roots.iter().map(|root| root.join(&parent)).collect();
    if before.iter().any(|dir| std::fs::create_dir(dir).is_err()) {
        return;
    }
    Cgroup::create(&parent.join("pod")).unwrap().remove();
    let stayed = before.iter().all(|dir| std::fs::remove_dir(dir).is_ok());
    assert!(stayed, "removed what no pod had made");
}
