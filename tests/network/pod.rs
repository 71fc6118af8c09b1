//! Several containers of one pod.

use std::time::Duration;

use sandbox_tests::network::{SCRIPT, SERVER};
use sandbox_tests::{Bed, Run, tests, until};

tests![Any containers_of_a_pod_share_its_network];

/// A container of the pod that the container `first` began.
fn member<'a>(bed: &'a Bed, name: &str, first: &str, kind: &str) -> Run<'a> {
    bed.run(name).pod(bed.network().pod()).flags(&[
        format!("--annotation=io.kubernetes.cri.sandbox-id={first}"),
        format!("--annotation=io.kubernetes.cri.container-type={kind}"),
    ])
}

/// They reach each other's loopback, cannot both have a port, and come from
/// one address.
fn containers_of_a_pod_share_its_network(bed: &Bed) {
    let first = bed.id("a");
    let words = ["toolbox", "listen", "127.0.0.1:9000", "say:first"];
    member(bed, "a", &first, "sandbox").detached(&words);
    let line = "until toolbox tcp 127.0.0.1:9000 line | grep line=first; do usleep 20000; done; \
                toolbox listen 127.0.0.1:9000 2>&1 | grep -o 'os error.*'; \
                toolbox tcp 203.0.113.1:7000 say:tell-peer line | sed 's/.*line=//; s/:.*//'";
    assert!(line.contains(&format!("{}:{SCRIPT}", SERVER.v4)));
    let told = member(bed, "b", &first, "container").shell(line).ok().text();
    let address = bed.network().pod().address.v4;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines, ["connect=ok line=first", "os error 98)", &address.to_string()]);
    // The first goes on when the second has ended.
    let told = member(bed, "c", &first, "container").shell("toolbox tcp 127.0.0.1:9000 line");
    assert_eq!(told.ok().text(), "connect=ok line=first");
    bed.remove(&first);
    until("the first is gone", Duration::from_secs(10), || {
        bed.task_status(&first).is_none().then_some(())
    });
}
