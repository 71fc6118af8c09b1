//! Standard streams and exit codes.

use std::fs::File;
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use sandbox_tests::{Bed, Process, in_lab, open_reader, patience, spec, tests};
use sha2::{Digest, Sha256};

tests![
    Any stdout_and_stderr_stay_apart,
    Any every_byte_value_arrives,
    Any exit_codes_are_exact,
    Any twenty_mib_through_cat_come_back,
    Any a_burst_before_exit_arrives_before_delete_returns,
    Any a_slow_reader_of_100_mb_loses_nothing,
    Any hundreds_of_megabytes_pass_while_other_streams_run,
    Any end_of_input_comes_only_with_close_io,
    Any a_detached_container_needs_no_reader,
];

/// Byte number `index` of what `toolbox pour` writes.
fn pattern(index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 13) as u8
}

fn poured(bytes: usize) -> Vec<u8> {
    (0..bytes).map(pattern).collect()
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// R7: each stream arrives as it was written, apart from the other.
fn stdout_and_stderr_stay_apart(bed: &Bed) {
    let out = bed.run("a").shell("echo to-out; echo to-err >&2").ok();
    assert_eq!(out.text(), "to-out");
    assert_eq!(out.errors(), "to-err");
}

/// R7: bytes are bytes: NUL, 0xff, and what is no UTF-8. Not with `ctr`, which
/// forgets CloseIO when a short input has ended before the task is there.
fn every_byte_value_arrives(bed: &Bed) {
    let all: Vec<u8> = (0..=255).collect();
    let out = bed.run_spec("a", spec(&["tee", "/dev/stderr"]), &all).ok();
    assert_eq!(out.stdout, all);
    assert_eq!(out.stderr, all);
}

/// R10: the code that the process exits with is the code that `ctr` exits
/// with. One container after another under the same id.
fn exit_codes_are_exact(bed: &Bed) {
    for code in [0, 1, 7, 126, 127, 255] {
        bed.run("a").shell(&format!("exit {code}")).exits(code);
    }
}

/// R9: what goes in comes out, and the end of the input is seen once.
fn twenty_mib_through_cat_come_back(bed: &Bed) {
    let data = poured(20 << 20);
    let out = bed.run("a").stdin(&data).foreground(&["cat"]).ok();
    assert_eq!(out.stdout.len(), data.len());
    assert_eq!(sum(&out.stdout), sum(&data));
    let out = bed.run("b").stdin(&data).foreground(&["toolbox", "sha256"]).ok();
    assert_eq!(out.text(), format!("{} {}", data.len(), sum(&data)));
}

/// Everything written before the exit arrives before Delete returns, when
/// Delete comes at once after Wait.
fn a_burst_before_exit_arrives_before_delete_returns(bed: &Bed) {
    const BYTES: usize = 8 << 20;
    let out = bed.run_spec("a", spec(&["toolbox", "pour", &BYTES.to_string()]), &[]).ok();
    assert_eq!(out.stdout.len(), BYTES);
    assert_eq!(sum(&out.stdout), sum(&poured(BYTES)));
}

/// R8: a reader that does not read stops the writer, with bounded memory in
/// between; once it reads, all of it comes. stderr, full too, is no deadlock.
fn a_slow_reader_of_100_mb_loses_nothing(bed: &Bed) {
    const BYTES: usize = 100_000_000;
    let line = format!("toolbox pour 1000000 >&2 & toolbox pour {BYTES}; wait");
    let shim = bed.shim("a", spec(&["sh", "-c", &line]));
    let (out, err) = (shim.fifo("out"), shim.fifo("err"));
    let mut request = shim.request(bed.rootfs("a"));
    request.stdout = out.display().to_string();
    request.stderr = err.display().to_string();
    let readers = [open_reader(&out), open_reader(&err)];
    shim.create(&request).unwrap();
    shim.rpc().start().unwrap();
    // Not for something to happen: so that as much as can pile up does.
    thread::sleep(patience(Duration::from_secs(2)));
    let held: u64 = shim.processes().iter().map(anonymous).sum();
    let [out, err] = readers.map(|mut reader| {
        thread::spawn(move || {
            let mut data = vec![];
            reader.read_to_end(&mut data).unwrap();
            data
        })
    });
    assert_eq!(shim.rpc().wait().unwrap().exit_status, 0);
    shim.rpc().delete().unwrap();
    let (out, err) = (out.join().unwrap(), err.join().unwrap());
    shim.shutdown();
    assert!(held < 64 << 10, "the host's processes hold {held} KiB while nobody reads");
    assert_eq!((out.len(), sum(&out)), (BYTES, sum(&poured(BYTES))));
    assert_eq!((err.len(), sum(&err)), (1_000_000, sum(&poured(1_000_000))));
}

/// One connection carries hundreds of MB without loss, in order, while others
/// of the same sandbox carry theirs: the input, and the sum of it on stderr.
/// 300 MB; 50 in the lab.
fn hundreds_of_megabytes_pass_while_other_streams_run(bed: &Bed) {
    let bytes = if in_lab() { 50_000_000 } else { 300_000_000 };
    // A shell gives what it starts beside itself no input unless it is named.
    let line = format!("exec 3<&0; toolbox sha256 <&3 >&2 & toolbox pour {bytes}; wait");
    let shim = bed.shim("a", spec(&["sh", "-c", &line]));
    let fifos = ["in", "out", "err"].map(|name| shim.fifo(name));
    let mut request = shim.request(bed.rootfs("a"));
    request.stdin = fifos[0].display().to_string();
    request.stdout = fifos[1].display().to_string();
    request.stderr = fifos[2].display().to_string();
    let (out, mut err) = (open_reader(&fifos[1]), open_reader(&fifos[2]));
    let mut input = File::options().read(true).write(true).open(&fifos[0]).unwrap();
    shim.create(&request).unwrap();
    shim.rpc().start().unwrap();
    let sent = poured(20 << 20);
    let expected = format!("{} {}\n", sent.len(), sum(&sent));
    let seen = thread::spawn(move || first_wrong_byte(out));
    input.write_all(&sent).unwrap();
    shim.rpc().close_stdin().unwrap();
    assert_eq!(shim.rpc().wait().unwrap().exit_status, 0);
    shim.rpc().delete().unwrap();
    let mut errors = String::new();
    err.read_to_string(&mut errors).unwrap();
    assert_eq!(errors, expected);
    assert_eq!(seen.join().unwrap(), Ok(bytes), "how much came, or the first byte that is wrong");
    shim.shutdown();
}

/// Reads to the end: how many bytes of [`pattern`] came, or where it is broken.
fn first_wrong_byte(mut reader: File) -> Result<usize, usize> {
    let (mut buffer, mut at) = (vec![0; 1 << 16], 0);
    loop {
        let read = reader.read(&mut buffer).unwrap();
        if read == 0 {
            return Ok(at);
        }
        if let Some(wrong) = (0..read).find(|&index| buffer[index] != pattern(at + index)) {
            return Err(at + wrong);
        }
        at += read;
    }
}

/// KiB that a process holds of its own, the emulator of a guest aside.
fn anonymous(process: &Process) -> u64 {
    if process.program().starts_with("qemu") {
        return 0;
    }
    process.field("smaps_rollup", "Pss_Anon").unwrap_or(0)
}

/// R9: writers of the FIFO that come and go are not the end of the input.
fn end_of_input_comes_only_with_close_io(bed: &Bed) {
    let shim = bed.shim("a", spec(&["cat"]));
    let (input, out, err) = (shim.fifo("in"), shim.fifo("out"), shim.fifo("err"));
    let mut request = shim.request(bed.rootfs("a"));
    request.stdin = input.display().to_string();
    request.stdout = out.display().to_string();
    request.stderr = err.display().to_string();
    let (mut reader, _errors) = (open_reader(&out), open_reader(&err));
    // A writer that stays while the shim opens its side.
    let held = File::options().read(true).write(true).open(&input).unwrap();
    shim.create(&request).unwrap();
    shim.rpc().start().unwrap();
    drop(held);
    for word in ["one", "two"] {
        // Each time a writer of its own, closed before the next.
        File::options().write(true).open(&input).unwrap().write_all(word.as_bytes()).unwrap();
        let mut back = [0; 3];
        reader.read_exact(&mut back).unwrap();
        assert_eq!(back, *word.as_bytes());
    }
    shim.rpc().close_stdin().unwrap();
    assert_eq!(shim.rpc().wait().unwrap().exit_status, 0);
    shim.rpc().delete().unwrap();
    shim.shutdown();
}

/// R14 in part: output that nobody fetches neither blocks nor ends the
/// process, as long as it fits into the pipe.
fn a_detached_container_needs_no_reader(bed: &Bed) {
    let id = bed.run("a").detached(&["sh", "-c", "echo unread; exit 3"]);
    bed.until_stopped(&id);
    let deleted = bed.ctr(&["task", "delete", &id]);
    assert!(deleted.errors().contains('3') || deleted.code == 3, "{deleted:?}");
    bed.ctr(&["container", "delete", &id]).ok();
}
