//! Names that try to climb: refused, by name. Ids that containerd itself
//! would refuse go to the shim's binary; `bootstrap` has those.

use sandbox_tests::{Bed, code, spec, tests};
use serde_json::json;
use ttrpc::Code;

tests![
    Ours climbing_ids_in_calls,
    Ours roots_and_bundles_that_climb,
    Ours annotations_that_climb,
    Any a_mount_cannot_leave_the_root,
];

/// What no id may be.
fn bad_ids() -> Vec<String> {
    let mut ids: Vec<String> =
        ["../x", "..", ".", "a/b", "/a", "-a", "a\0b", "a\nb", "ünï", "a b", ""]
            .map(str::to_owned)
            .to_vec();
    ids.push("x".repeat(300));
    ids
}

/// A second container of a shim, named so.
fn climbing_ids_in_calls(bed: &Bed) {
    let shim = bed.shim("a", spec(&["sleep", "1000"]));
    let request = shim.request(bed.rootfs("a"));
    for id in bad_ids() {
        let mut bad = request.clone();
        bad.id.clone_from(&id);
        let error = shim.create(&bad).unwrap_err();
        let refused = matches!(code(&error), Some(Code::INVALID_ARGUMENT | Code::NOT_FOUND));
        assert!(refused, "{id:?}: {error}");
    }
    // It still does what it is for.
    shim.create(&request).unwrap();
    shim.rpc().delete().unwrap();
    shim.shutdown();
}

fn roots_and_bundles_that_climb(bed: &Bed) {
    for (name, root) in [("a", "../../../../etc"), ("b", ""), ("c", "root\0fs")] {
        let mut spec = spec(&["true"]);
        spec["root"]["path"] = json!(root);
        let shim = bed.shim(name, spec);
        // With no mounts of containerd's, the root is the one of the spec.
        let mut request = shim.request(bed.dir().to_owned());
        request.rootfs.clear();
        let error = shim.create(&request).unwrap_err().to_string();
        assert!(error.contains("root"), "{root:?}: {error}");
        shim.shutdown();
    }
}

/// Those that we read are numbers; others are nothing to us.
fn annotations_that_climb(bed: &Bed) {
    let values = ["../../../etc/passwd", "-1", "1\0", "１", "1;reboot"];
    for (number, value) in values.iter().enumerate() {
        let mut spec = spec(&["true"]);
        spec["annotations"] = json!({ "io.sandbox.vcpus": value });
        bed.run_spec(&format!("a{number}"), spec, &[]).fails_with(&["io.sandbox.vcpus"]);
    }
    let mut spec = spec(&["echo", "fine"]);
    spec["annotations"] = json!({ "org.example/../../x": "../../../etc/passwd\u{0}" });
    assert_eq!(bed.run_spec("b", spec, &[]).ok().text(), "fine");
}

/// R49, R50: `..` and a link in the image that points out: what is mounted
/// there comes to lie inside the container's root.
fn a_mount_cannot_leave_the_root(bed: &Bed) {
    let (source, root) = (bed.dir().join("source"), bed.rootfs("a"));
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "mounted").unwrap();
    std::os::unix::fs::symlink("../../../../../../../../tmp", root.join("out")).unwrap();
    let mut spec = spec(&["cat", "/tmp/one/file", "/two/file"]);
    for at in ["/out/one", "/../../two"] {
        let bind = sandbox_tests::mount(at, "bind", source.to_str().unwrap(), &["rbind", "ro"]);
        spec["mounts"].as_array_mut().unwrap().push(bind);
    }
    assert_eq!(bed.shim("a", spec).run(root, &[]).ok().text(), "mountedmounted");
    assert!(!std::path::Path::new("/tmp/one").exists(), "a mount point on the host");
}
