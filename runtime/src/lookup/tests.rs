#![allow(clippy::unwrap_used)]
use super::*;
use crate::state::Description;

fn states(names: &[&str]) -> Vec<State> {
    let state = |name: &&str| {
        let (namespace, id) = name.split_once('/').unwrap();
        State::new(Description {
            namespace: namespace.to_owned(),
            id: id.to_owned(),
            bundle: "/b".into(),
            engine: "qemu".to_owned(),
            engine_reason: String::new(),
            vcpus: 1,
            memory_mib: 512,
            started: 0,
            network: "developer".to_owned(),
        })
    };
    names.iter().map(state).collect()
}

#[test]
fn a_pod_is_found_by_as_much_of_its_name_as_is_its_own() {
    let states = states(&["default/web", "default/web-2", "k8s.io/web", "k8s.io/0a1b2c"]);
    let told = |name: &str| match pick(&states, name) {
        Ok(id) => id.to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(told("0a1"), "k8s.io/0a1b2c");
    assert_eq!(told("default/web"), "default/web");
    assert_eq!(told("web-"), "default/web-2");
    assert_eq!(told("k8s.io/w"), "k8s.io/web");
    assert_eq!(told("web"), "\"web\" may be default/web or k8s.io/web: give more of the name");
    let none = told("x");
    assert!(
        none.starts_with("no sandbox \"x\" runs on this host; there are default/web,"),
        "{none}"
    );
    assert!(told("").starts_with("no sandbox"));
    assert!(pick(&[], "x").unwrap_err().to_string().ends_with("there are none"));
}
