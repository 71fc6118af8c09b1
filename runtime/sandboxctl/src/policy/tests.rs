#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use clap::Parser;
use sandbox_runtime::NetworkConfig;
use sandbox_vm_spec::network::{receive, send};

use super::*;
use crate::tests::fake::Fake;

pub const API: &str = "version = 1\n\n[[rule]]\nid = \"api\"\ndir = \"egress\"\naction = \"allow\"\n\
                   ports = [443]\nname = [\"api.example.com\"]\n";

#[derive(Parser)]
pub struct Line {
    #[command(subcommand)]
    pub command: Command,
}

pub struct Files(tempfile::TempDir);

impl Files {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self(directory)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[test]
fn good_files() {
    let files = Files::new(&[("a.toml", API)]);
    let path = files.path("a.toml");
    let (text, is_good) = check(std::slice::from_ref(&path));
    assert!(is_good);
    assert_eq!(text, format!("{}: good, 1 rule\n", path.display()));
}

#[test]
fn bad_files_are_told_with_line_key_and_fix() {
    let bad = API.replace("ports = [443]", "cidr = [\"10.0.0.1/8\"]");
    let files = Files::new(&[("good.toml", API), ("bad.toml", &bad)]);
    let paths = [files.path("bad.toml"), files.path("none.toml"), files.path("good.toml")];
    let (text, is_good) = check(&paths);
    assert!(!is_good);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].contains("bad.toml: line 7: rule[1].cidr: `10.0.0.1/8`"), "{text}");
    assert!(lines[1].contains("cannot read") && lines[1].contains("No such file"), "{text}");
    assert!(lines[2].ends_with("good.toml: good, 1 rule"), "{text}");
}

#[test]
fn warnings_are_told() {
    let open = API.replace("version = 1", "version = 1\ndefaults = { egress = \"allow\" }");
    let files = Files::new(&[("a.toml", &open.replace("\"allow\"\nports", "\"deny\"\nports"))]);
    let (text, is_good) = check(&[files.path("a.toml")]);
    assert!(
        is_good && text.contains("warning: line 9: rule[1].name (rule `api`): advisory"),
        "{text}"
    );
}

#[test]
fn command_lines_that_say_nothing() {
    for line in [
        "check",
        "explain a.toml",
        "explain a.toml nowhere",
        "explain a.toml a:1 --proto x",
        "explain a:1",
        "explain pod a:1 --policy a.toml",
    ] {
        assert!(Line::try_parse_from(["sandboxctl"].into_iter().chain(line.split(' '))).is_err());
    }
}

/// A sandbox whose network process gives this answer to one request.
fn with_sandbox(
    reply: Reply,
    file: &str,
    recheck: bool,
    json: bool,
) -> (Result<(String, String), String>, Vec<Request>) {
    let files = Files::new(&[("pod.toml", file), ("node.toml", "version = 1\n")]);
    let id = PodId::new("default", "web").unwrap();
    let network = NetworkConfig { policy: Some(files.path("node.toml")), ..Default::default() };
    let config = Config { state_dir: files.0.path().join("state"), network, ..Config::default() };
    let socket = sandbox_runtime::network::pod_audit(&config, &id)[0].with_file_name("net.sock");
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request: Option<Request> = receive(&mut stream, 10_000).unwrap();
        if request.is_some() {
            send(&mut stream, &reply).unwrap();
        }
        request.into_iter().collect()
    });
    let wish = Set { pod: String::new(), file: files.path("pod.toml"), recheck, json };
    let told = set(&config, &id, &wish).map_err(|error| sandbox_runtime::chain(&*error));
    // Ends the server where nothing was asked.
    drop(UnixStream::connect(&socket));
    (told, server.join().unwrap())
}

#[test]
fn a_policy_is_put_in_force() {
    let reply = || Reply::PolicySet { generation: 3, ended: 2 };
    let (told, asked) = with_sandbox(reply(), API, true, false);
    let (text, _) = told.unwrap();
    assert_eq!(text, "policy 3 is in force; it ended 2 open flows\n");
    let source = |text: &str| PolicySource::Text(text.to_owned());
    let (node, pod) = (source("version = 1\n"), source(API));
    assert_eq!(asked, [Request::SetPolicy { node, pod, recheck: true }]);
    let (told, _) = with_sandbox(reply(), API, false, false);
    let text = "policy 3 is in force; open flows go on under the policy that allowed them\n";
    assert_eq!(told.unwrap().0, text);
    let (told, _) = with_sandbox(reply(), API, true, true);
    let told: serde_json::Value = serde_json::from_str(&told.unwrap().0).unwrap();
    assert_eq!(told, serde_json::json!({"generation": 3, "ended": 2}));
}

#[test]
fn a_policy_that_cannot_be_used_is_told_with_line_key_and_fix_and_not_asked_for() {
    let bad = API.replace("ports = [443]", "cidr = [\"10.0.0.1/8\"]");
    let (told, asked) = with_sandbox(Reply::Done, &bad, false, false);
    let error = told.unwrap_err();
    assert!(error.contains("pod.toml") && error.contains("line 7"), "{error}");
    assert!(error.contains("cidr") && error.contains("write 10.0.0.0/8"), "{error}");
    assert_eq!(asked, []);
    let refused = Reply::Failed { error: "it is not configured yet".into() };
    let (told, _) = with_sandbox(refused, API, false, false);
    assert_eq!(told.unwrap_err(), "it is not configured yet");
}

#[test]
fn the_policies_in_force_are_shown() {
    let reply = |node, pod| Reply::Policy { generation: 4, node, pod };
    let hostile = "version = 1\n\u{1b}[2J".to_owned();
    let mut fake = Fake::new(vec![reply(PolicySource::Unset, PolicySource::Text(hostile))]);
    assert_eq!(
        in_force(&mut fake.client, false).unwrap(),
        "# policy 4 is in force\n\n# the node's policy: none, everything is left to the pod's\n\n\
         # the pod's policy:\nversion = 1\n\\u{1b}[2J\n"
    );
    assert_eq!(fake.asked(), [Request::Policy]);
    let broken = || PolicySource::Broken("line 1\n: no".into());
    let mut fake = Fake::new(vec![reply(broken(), PolicySource::Unset)]);
    let text = in_force(&mut fake.client, false).unwrap();
    assert!(text.contains("nothing is allowed: line 1\\n: no\n"), "{text}");
    let mut fake = Fake::new(vec![reply(broken(), PolicySource::Unset)]);
    let told: serde_json::Value =
        serde_json::from_str(&in_force(&mut fake.client, true).unwrap()).unwrap();
    assert_eq!(told["generation"], 4);
    assert_eq!(told["node"]["broken"], "line 1\n: no");
}
