use super::*;

const FILE: &str = r#"
    version = 1
    defaults = { egress = "deny", ingress = "deny" }
    [[rule]]
    id = "api"
    dir = "egress"
    action = "allow"
    proto = ["tcp"]
    ports = [443]
    name = ["api.example.com"]
"#;

fn explain(policy: &Policy, to: &str, at: Option<&str>) -> Explanation {
    policy.explain(Protocol::Tcp, &to.parse().unwrap(), at.map(ip))
}

#[test]
fn a_name_that_is_allowed() {
    let told = explain(&pod(FILE), "api.example.com:443", None);
    assert_eq!((told.answer, told.rule.as_deref()), (Answer::Allowed, Some("api")));
    assert!(told.text.starts_with(
        "tcp to api.example.com port 443 is allowed: rule `api` of the pod's policy decides."
    ));
}

#[test]
fn names_that_are_not() {
    let policy = pod(FILE);
    let told = explain(&policy, "evil.example:443", None);
    assert_eq!(told.answer, Answer::Denied);
    assert!(told.text.contains("not even looked up"), "{}", told.text);
    let told = explain(&policy, "api.example.com:80", None);
    assert_eq!((told.answer, told.reason.as_str()), (Answer::Denied, "default"));
    let told = explain(&policy, "api.example.com:443", Some("10.0.0.1"));
    assert_eq!((told.answer, told.reason.as_str()), (Answer::Denied, "rebinding"));
}

#[test]
fn addresses() {
    let policy = pod(FILE);
    let told = explain(&policy, "203.0.113.9:443", None);
    assert_eq!((told.answer, told.reason.as_str()), (Answer::Denied, "no-name"));
    let told = explain(&policy, "[::1]:443", None);
    assert_eq!((told.answer, told.reason.as_str()), (Answer::Denied, "invalid:loopback"));
    let told = explain(&policy, "169.254.169.254:80", None);
    assert!(told.text.contains("only a rule of the node's policy opens"), "{}", told.text);
}

#[test]
fn a_name_where_rules_list_networks() {
    let networks =
        "[[rule]]\nid=\"db\"\ndir=\"egress\"\naction=\"allow\"\ncidr=[\"203.0.113.0/24\"]";
    let policy = pod(&format!("{FILE}{networks}"));
    let told = explain(&policy, "db.example.com:5432", None);
    assert_eq!(told.answer, Answer::Depends);
    let told = explain(&policy, "db.example.com:5432", Some("203.0.113.5"));
    assert_eq!((told.answer, told.rule.as_deref()), (Answer::Allowed, Some("db")));
}

#[test]
fn what_is_no_destination() {
    for bad in ["", "x", "x:", ":443", "x:99999", "a b:1", "*.example.com:443"] {
        assert!(bad.parse::<Destination>().is_err(), "{bad}");
    }
}
