//! The network of a pod, from the spec to packets.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};
use sandbox_runtime::network::set_policy;

use super::*;

/// Everything that a pod is told to greet with.
const GREETING: &[u8] = b"hello from outside\n";

/// Two namespaces joined by a link: a pod's, as a CNI would leave it, and
/// outside. They are gone when this is dropped.
struct World {
    pod: String,
    outside: String,
}

const POD: &str = "10.77.0.2";
const OUTSIDE: &str = "10.77.0.1";
const OUTSIDE6: &str = "fd77::1";

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

impl World {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = |side| {
            format!("sb{side}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
        };
        let world = Self { pod: name('p'), outside: name('o') };
        let (pod, outside) = (&world.pod, &world.outside);
        ip(&format!("netns add {pod}"));
        ip(&format!("netns add {outside}"));
        ip(&format!("-n {pod} link add eth0 mtu 1400 type veth peer name eth0 netns {outside}"));
        for (name, v4, v6) in [(pod, POD, "fd77::2"), (outside, OUTSIDE, OUTSIDE6)] {
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} address add {v4}/24 dev eth0"));
            ip(&format!("-n {name} address add {v6}/64 dev eth0 nodad"));
            ip(&format!("-n {name} link set eth0 up"));
        }
        ip(&format!("-n {pod} route add default via {OUTSIDE}"));
        ip(&format!("-n {pod} -6 route add default via {OUTSIDE6}"));
        world
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.pod)
    }

    /// A server outside that greets whoever comes.
    fn greets(&self, at: &str) -> u16 {
        greets(&self.outside, at)
    }

    /// The namespaces of a spec whose network is this pod's.
    fn spec(&self) -> Value {
        json!([{"type": "mount"}, {"type": "pid"}, {"type": "network", "path": self.path()}])
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in [&self.pod, &self.outside] {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

/// A server in a namespace that greets whoever comes.
fn greets(namespace: &str, at: &str) -> u16 {
    let at: IpAddr = at.parse().unwrap();
    let listener = inside(namespace, move || TcpListener::bind(SocketAddr::new(at, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let _ = std::io::Write::write_all(&mut client.unwrap(), GREETING);
        }
    });
    port
}

/// Does something in a namespace.
fn inside<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = fs::File::open(format!("/run/netns/{name}")).unwrap();
    let thread = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    });
    thread.join().unwrap()
}

impl Host {
    /// A container with these namespaces, and more of a spec.
    fn networked(&self, id: &str, script: &str, namespaces: Value, over: Value) -> CreateContainer {
        let mut over = over;
        over["linux"] = json!({
            "cgroupsPath": format!("/{}/{id}", self.cgroup()),
            "namespaces": namespaces,
        });
        self.container_with(id, &["/bin/sh", "-c", script], &over)
    }

    /// Runs a container alone in its pod to its end: its output and status.
    async fn told(&self, create: &CreateContainer) -> (String, u32) {
        let (pod, mut events) = self.pod(create).await;
        pod.create_container(create.clone()).await.unwrap();
        let (out, err) = (reader(&create.stdio.stdout), reader(&create.stdio.stderr));
        pod.start(&init(&create.id)).await.unwrap();
        let (_, status) = exit_event(&mut events).await;
        pod.delete(&init(&create.id)).await.unwrap();
        let mut text = String::from_utf8(out.await.unwrap()).unwrap();
        text.push_str(&String::from_utf8(err.await.unwrap()).unwrap());
        pod.shutdown().await;
        self.assert_clean();
        (text, status)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots a virtual machine"]
async fn a_given_namespace_is_the_guests() {
    let (host, world) = (Host::new(), World::new());
    let (port, port6) = (world.greets(OUTSIDE), world.greets(OUTSIDE6));
    let script = format!(
        "ip address show dev eth0; ip route; nc {OUTSIDE} {port}; nc {OUTSIDE6} {port6}; \
         nc -w 3 {OUTSIDE} 9 || echo refused; nc -w 3 {POD}9 9 || echo unreachable"
    );
    let create = host.networked("given", &script, world.spec(), json!({}));
    let (told, _) = host.told(&create).await;
    println!("{told}");
    for expected in ["mtu 1400", "inet 10.77.0.2/24", "inet6 fd77::2/64", "default via 10.77.0.1"] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert_eq!(told.matches("hello from outside").count(), 2, "{told}");
    assert!(told.contains("refused") && told.contains("unreachable"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots a virtual machine"]
async fn what_the_guest_listens_on_is_reached_in_its_namespace() {
    let (host, world) = (Host::new(), World::new());
    let script = "nc -ll -p 8080 -e echo from the guest & httpd -f -p 127.0.0.1:9090 -h /proc/sys/kernel & \
                  cat; kill %1 %2";
    let create = host.networked("serves", script, world.spec(), json!({}));
    let (pod, mut events) = host.pod(&create).await;
    pod.create_container(create.clone()).await.unwrap();
    pod.start(&init("serves")).await.unwrap();
    let dial = |name: &str, at: String, asks: &'static [u8]| {
        inside(name, move || {
            let end = Instant::now() + LIMIT;
            loop {
                match TcpStream::connect(&at) {
                    Ok(mut stream) => {
                        std::io::Write::write_all(&mut stream, asks).unwrap();
                        let mut text = String::new();
                        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
                        return text;
                    }
                    // The guest listens when it does.
                    Err(error) => assert!(Instant::now() < end, "{at}: {error}"),
                }
                thread::sleep(Duration::from_millis(2));
            }
        })
    };
    assert_eq!(dial(&world.outside, format!("{POD}:8080"), b""), "from the guest\n");
    // As `kubectl port-forward` does.
    let told = dial(&world.pod, "127.0.0.1:9090".to_owned(), b"GET /ostype HTTP/1.0\r\n\r\n");
    assert!(told.ends_with("Linux\n"), "{told}");
    let refused = inside(&world.outside, || TcpStream::connect(format!("{POD}:9090")));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    pod.kill(&init("serves"), 9, true).await.unwrap();
    exit_event(&mut events).await;
    pod.delete(&init("serves")).await.unwrap();
    pod.shutdown().await;
    host.assert_clean();
}

/// A link between the host's own namespace and one outside; gone when dropped.
struct Uplink {
    outside: String,
    link: String,
}

const HOST: &str = "10.78.0.1";
const BEYOND: &str = "10.78.0.2";

impl Uplink {
    fn new() -> Self {
        let outside = format!("sbu{}", std::process::id());
        let link = outside.clone();
        ip(&format!("netns add {outside}"));
        ip(&format!("link add {link} type veth peer name eth0 netns {outside}"));
        ip(&format!("address add {HOST}/24 dev {link}"));
        ip(&format!("link set {link} up"));
        ip(&format!("-n {outside} address add {BEYOND}/24 dev eth0"));
        ip(&format!("-n {outside} link set eth0 up"));
        Self { outside, link }
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.link]).status();
        let _ = Command::new("ip").args(["netns", "delete", &self.outside]).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots a virtual machine"]
async fn a_namespace_without_a_path_gets_the_developer_network() {
    let (host, uplink) = (Host::new(), Uplink::new());
    let port = greets(&uplink.outside, BEYOND);
    let closed = TcpListener::bind((HOST, 0)).unwrap();
    let own = closed.local_addr().unwrap();
    let script = format!(
        "nc -ll -p 7070 -e true & \
         ip address show dev eth0; ip route; cat /etc/resolv.conf; nc {BEYOND} {port}; \
         nc -w 5 {HOST} {} && echo REACHED; nc -w 5 10.0.2.2 {} && echo REACHED; \
         echo said; exec sleep 1000",
        own.port(),
        own.port()
    );
    let create =
        host.networked("dev", &script, json!([{"type": "mount"}, {"type": "network"}]), json!({}));
    let (pod, mut events) = host.pod(&create).await;
    assert_eq!(host.states()[0].pod.network, "developer");
    pod.create_container(create.clone()).await.unwrap();
    let path = create.stdio.stdout.clone();
    let out = spawn_blocking(move || fs::File::open(path).unwrap());
    pod.start(&init("dev")).await.unwrap();
    let out = out.await.unwrap();
    let told = spawn_blocking(move || {
        let mut out = std::io::BufReader::new(out);
        let mut told = String::new();
        while !told.ends_with("said\n") {
            assert!(std::io::BufRead::read_line(&mut out, &mut told).unwrap() > 0, "{told}");
        }
        told
    });
    let told = told.await.unwrap();
    println!("{told}");
    // What it listens on is nobody's on the host.
    assert!(TcpStream::connect("127.0.0.1:7070").is_err());
    pod.kill(&init("dev"), 9, true).await.unwrap();
    exit_event(&mut events).await;
    pod.delete(&init("dev")).await.unwrap();
    for expected in
        ["inet 10.0.2.15/24", "inet6 fd00::15/64", "default via 10.0.2.2", "hello from outside"]
    {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert!(!told.contains("REACHED"), "{told}");
    let servers = fs::read_to_string("/etc/resolv.conf").unwrap();
    assert!(servers.lines().filter(|l| l.starts_with("nameserver")).all(|l| told.contains(l)));
    pod.shutdown().await;
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots a virtual machine"]
async fn a_pods_policy_holds_and_is_changed_while_it_runs() {
    let (mut host, world) = (Host::new(), World::new());
    let (open, closed) = (world.greets(OUTSIDE), world.greets(OUTSIDE));
    let policies = host.dir.path().join("policies");
    fs::create_dir(&policies).unwrap();
    let allow = |port| {
        format!(
            "version = 1\n[[rule]]\nid = \"one\"\ndir = \"egress\"\naction = \"allow\"\n\
             ports = [{port}]\ncidr = [\"{OUTSIDE}/32\"]\n"
        )
    };
    fs::write(policies.join("first.toml"), allow(open)).unwrap();
    host.config.network.policies = policies;
    let script = format!(
        "try() {{ nc -w 5 {OUTSIDE} $1 >/dev/null && echo $1 open || echo $1 closed; }}; \
         try {open}; try {closed}; echo tried; read line; try {open}; try {closed}"
    );
    let over = json!({"annotations": {"io.sandbox.network-policy": "first"}});
    let create = host.networked("policed", &script, world.spec(), over);
    let (pod, mut events) = host.pod(&create).await;
    pod.create_container(create.clone()).await.unwrap();
    pod.start(&init("policed")).await.unwrap();
    let (path, id) = (create.stdio.stdout.clone(), pod.id().clone());
    let config = host.config.clone();
    let stdin = create.stdio.stdin.clone();
    let told = spawn_blocking(move || {
        let mut out = std::io::BufReader::new(fs::File::open(path).unwrap());
        let mut text = String::new();
        while !text.ends_with("tried\n") {
            assert!(std::io::BufRead::read_line(&mut out, &mut text).unwrap() > 0, "{text}");
        }
        let set = set_policy(&config, &id, Some(&allow(closed)), true).unwrap();
        assert!(set.generation > 1, "{set:?}");
        assert!(set_policy(&config, &id, Some("version = 9"), true).is_err());
        fs::write(stdin, "go\n").unwrap();
        std::io::Read::read_to_string(&mut out, &mut text).unwrap();
        text
    });
    exit_event(&mut events).await;
    pod.delete(&init("policed")).await.unwrap();
    let expected = format!("{open} open\n{closed} closed\ntried\n{open} closed\n{closed} open\n");
    assert_eq!(told.await.unwrap(), expected);
    let audit = sandbox_runtime::network::pod_audit(&host.config, pod.id());
    let lines = audit.map(|path| fs::read_to_string(path).unwrap()).concat();
    assert!(
        lines.contains("\"rule\":\"one\"") && lines.contains("\"verdict\":\"deny\""),
        "{lines}"
    );
    pod.shutdown().await;
    host.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots virtual machines"]
async fn hooks_make_the_network_of_a_namespace_without_a_path() {
    let (host, world) = (Host::new(), World::new());
    let port = world.greets(OUTSIDE);
    let marks = host.dir.path().join("marks");
    // As a CNI does it: by the namespace of the process that the hook is told.
    let set_up = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); \
         ip link add tmp$pid type veth peer name eth0 netns /proc/$pid/ns/net; \
         ip link set tmp$pid netns {} name hook0; \
         ip -n {} address add 10.79.0.1/24 dev hook0; ip -n {} link set hook0 up; \
         nsenter --net=/proc/$pid/ns/net ip address add 10.79.0.2/24 dev eth0; \
         nsenter --net=/proc/$pid/ns/net ip link set eth0 up; \
         nsenter --net=/proc/$pid/ns/net ip route add default via 10.79.0.1; \
         echo create >>{}",
        world.outside,
        world.outside,
        world.outside,
        marks.display()
    );
    let hook = |script: &str| {
        json!({"path": "/bin/sh", "args": ["sh", "-ec", script],
               "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]})
    };
    let mark = |word: &str| hook(&format!("echo {word} >>{}", marks.display()));
    let hooks = json!({
        "createRuntime": [hook(&set_up)],
        "poststart": [mark("start")],
        "poststop": [mark("stop")],
    });
    let script = format!("ip address show dev eth0; nc {OUTSIDE} {port}");
    let create = host.networked(
        "hooked",
        &script,
        json!([{"type": "mount"}, {"type": "network"}]),
        json!({"hooks": hooks}),
    );
    let (told, _) = host.told(&create).await;
    assert!(told.contains("inet 10.79.0.2/24") && told.contains("hello from outside"), "{told}");
    assert_eq!(fs::read_to_string(&marks).unwrap(), "create\nstart\nstop\n");

    // One that fails undoes the container, and its pod can go on.
    let hooks = json!({
        "createRuntime": [hook("echo no address is free >&2; exit 4")],
        "poststop": [mark("undone")],
    });
    let create = host.networked(
        "fails",
        "true",
        json!([{"type": "mount"}, {"type": "network"}]),
        json!({"hooks": hooks}),
    );
    let (pod, _events) = host.pod(&create).await;
    let error = pod.create_container(create.clone()).await.unwrap_err().report();
    assert!(error.contains("exited with status 4: no address is free"), "{error}");
    assert!(pod.containers().is_empty());
    pod.shutdown().await;
    assert!(fs::read_to_string(&marks).unwrap().ends_with("undone\n"));
    host.assert_clean();

    // Hooks that make none, as those of `nerdctl run --network none`.
    let hooks = json!({"createRuntime": [mark("none")]});
    let script = "ip address; nc -w 3 10.77.0.1 1 2>&1";
    let create = host.networked(
        "none",
        script,
        json!([{"type": "mount"}, {"type": "network"}]),
        json!({"hooks": hooks}),
    );
    let (told, _) = host.told(&create).await;
    assert!(told.contains("127.0.0.1/8") && !told.contains("10.0.2.15"), "{told}");
    assert!(told.contains("Network is unreachable"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root"]
async fn a_network_that_cannot_be_had_is_refused_before_anything_runs() {
    let mut host = Host::new();
    let id = || PodId::new("test", "one").unwrap();
    let refused = async |host: &Host, spec: PodSpec| {
        let error = Pod::create(host.config.clone(), id(), spec).await.err().unwrap();
        host.assert_clean();
        println!("{}", error.report());
        (error.kind(), error.report())
    };
    let create = host.networked("one", "true", json!([{"type": "mount"}]), json!({}));
    let of_host = PodSpec::from_bundle(&create.bundle).unwrap();
    let (kind, error) = refused(&host, of_host.clone()).await;
    assert_eq!(kind, ErrorKind::FailedPrecondition);
    assert!(error.contains("allow_host = true"), "{error}");

    let missing = NetworkNamespace::Path("/run/netns/nonexistent".into());
    let (kind, error) = refused(&host, PodSpec { network: missing, ..of_host.clone() }).await;
    assert_eq!(kind, ErrorKind::FailedPrecondition);
    assert!(error.contains("/run/netns/nonexistent"), "{error}");

    let mut named = PodSpec { network: NetworkNamespace::New, ..of_host };
    named.annotations.insert("io.sandbox.network-policy".to_owned(), "web".to_owned());
    host.config.network.policies = host.dir.path().join("policies");
    let (kind, error) = refused(&host, named.clone()).await;
    assert_eq!(kind, ErrorKind::InvalidArgument);
    assert!(error.contains("web.toml does not exist; there are none"), "{error}");

    let file = host.dir.path().join("policy.toml");
    fs::write(&file, "version = 1\ndefaults = { egress = \"maybe\" }\n").unwrap();
    host.config.network.policy = Some(file);
    let (kind, error) = refused(&host, named).await;
    assert_eq!(kind, ErrorKind::FailedPrecondition);
    assert!(error.contains("policy.toml: line 2: defaults.egress"), "{error}");
}
