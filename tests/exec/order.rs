//! What comes before what: calls, events, and the end of the container.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use sandbox_tests::{Bed, tests, until};
use serde_json::json;
use ttrpc::Code;

use super::{finish, process, started, status};

tests![
    Ours events_come_in_order_while_a_container_ends,
    Ours a_size_from_before_the_start_is_kept,
    Ours who_waits_for_an_exec_hears_of_its_removal,
    Ours a_paused_container_runs_no_exec,
];

/// R21: an exec is added, started and ended, each once; and whatever is on its
/// way when the container ends comes before that.
fn events_come_in_order_while_a_container_ends(bed: &Bed) {
    let shim = started(bed);
    let id = bed.id("a");
    let ran = thread::scope(|scope| {
        let callers: Vec<_> = (0..6)
            .map(|caller| {
                let rpc = shim.rpc();
                scope.spawn(move || {
                    let mut ran = BTreeSet::new();
                    for number in 0.. {
                        let name = format!("c{caller}-{number}");
                        let words: &[&str] =
                            if number % 2 == 0 { &["true"] } else { &["sleep", "1000"] };
                        match rpc.exec(&name).run(&process(words)) {
                            Ok(_) => drop(ran.insert(name)),
                            // The container has ended.
                            Err(_) => return ran,
                        }
                    }
                    ran
                })
            })
            .collect();
        until("some have ended", Duration::from_secs(60), || {
            let ended = shim.topics().iter().filter(|topic| *topic == "/tasks/exit").count();
            (ended >= 6).then_some(())
        });
        shim.rpc().kill(9, false).unwrap();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect::<BTreeSet<_>>()
    });
    assert_eq!(shim.rpc().wait().unwrap().exit_status, 137);
    shim.rpc().delete().unwrap();
    until("the events", Duration::from_secs(5), || {
        shim.topics().last().is_some_and(|last| last == "/tasks/delete").then_some(())
    });
    let told = shim.told();
    let at = |topic: &str, of: &str| {
        let found = told.iter().enumerate().filter(|(_, event)| event.0 == topic && event.1 == of);
        found.map(|(at, _)| at).collect::<Vec<_>>()
    };
    let end = at("/tasks/exit", &id);
    assert_eq!(end, [told.len() - 2], "the last but the delete: {told:?}");
    assert!(ran.len() > 6, "{ran:?}");
    for name in &ran {
        let [added, started, exit] = ["/tasks/exec-added", "/tasks/exec-started", "/tasks/exit"]
            .map(|topic| at(topic, name));
        assert_eq!((added.len(), started.len(), exit.len()), (1, 1, 1), "{name}: {told:?}");
        assert!(added < started && started < exit, "{name}: {told:?}");
    }
    let exits = told.iter().filter(|(topic, _)| topic == "/tasks/exit").count();
    assert_eq!(exits, ran.len() + 1, "of those that could not be started nothing is told");
    shim.shutdown();
}

fn a_size_from_before_the_start_is_kept(bed: &Bed) {
    let shim = started(bed);
    let rpc = shim.rpc().exec("tty");
    let line = "until test \"$(stty size)\" = '43 132'; do sleep 0.1; done";
    let mut wanted = process(&["sh", "-c", line]);
    wanted["terminal"] = json!(true);
    let mut request = rpc.request(&wanted);
    request.terminal = true;
    rpc.add(&request).unwrap();
    rpc.resize(80, 24).unwrap();
    rpc.resize(132, 43).unwrap();
    rpc.start().unwrap();
    assert_eq!(rpc.wait().unwrap().exit_status, 0);
    rpc.delete().unwrap();
    finish(shim);
}

/// Of one that never ran, and of one whose container goes.
fn who_waits_for_an_exec_hears_of_its_removal(bed: &Bed) {
    let shim = started(bed);
    let (one, two) = (shim.rpc().exec("one"), shim.rpc().exec("two"));
    for rpc in [&one, &two] {
        rpc.add(&rpc.request(&process(&["true"]))).unwrap();
    }
    let [first, second] = [&one, &two].map(|rpc| {
        let rpc = rpc.clone();
        thread::spawn(move || rpc.wait().map(|answer| answer.exit_status))
    });
    // Either order of the two calls is right: one that comes later finds none.
    let heard = |answer: ttrpc::Result<u32>| match answer {
        Ok(status) => assert_eq!(status, 0),
        Err(error) => assert_eq!(status(error), Code::NOT_FOUND),
    };
    one.delete().unwrap();
    heard(first.join().unwrap());
    finish(shim);
    heard(second.join().unwrap());
}

/// Neither one that is new nor one that was added before.
fn a_paused_container_runs_no_exec(bed: &Bed) {
    let shim = started(bed);
    let (early, late) = (shim.rpc().exec("early"), shim.rpc().exec("late"));
    let words = process(&["true"]);
    early.add(&early.request(&words)).unwrap();
    shim.rpc().pause().unwrap();
    assert_eq!(status(early.start().unwrap_err()), Code::FAILED_PRECONDITION);
    assert_eq!(status(late.run(&words).unwrap_err()), Code::FAILED_PRECONDITION);
    shim.rpc().resume().unwrap();
    early.delete().unwrap();
    late.run(&words).unwrap();
    assert_eq!(late.wait().unwrap().exit_status, 0);
    late.delete().unwrap();
    finish(shim);
}
