use super::*;

#[test]
fn parse_after_build_gives_the_header_back() {
    for exec_id in ["", "e1"] {
        for stream in [StreamName::Stdin, StreamName::Stdout, StreamName::Stderr] {
            let header = StreamHeader { container_id: "c".into(), exec_id: exec_id.into(), stream };
            assert_eq!(header.to_string().parse(), Ok(header));
        }
    }
}

#[test]
fn other_lines_are_refused() {
    for line in ["", "c", "c -", "c - stdnone", " - stdin", "c  stdin", "c - stdin x", "c - stdin "]
    {
        assert!(line.parse::<StreamHeader>().is_err(), "{line:?} was taken");
    }
}
