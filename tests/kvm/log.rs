//! What the output of a lab says about its tests.

/// The output of one lab.
pub struct Log<'a> {
    text: &'a str,
}

impl<'a> Log<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text }
    }

    /// Tests that began. A lab's kernel may die before their results.
    pub fn begun(&self) -> impl Iterator<Item = &'a str> {
        self.text.lines().filter_map(|line| line.strip_suffix(": begins"))
    }

    /// Tests with a result; true for those that passed.
    pub fn results(&self) -> impl Iterator<Item = (&'a str, bool)> {
        self.text.lines().filter_map(result)
    }

    /// Results, figures, and lines of the lab itself.
    pub fn progress(&self) -> impl Iterator<Item = &'a str> {
        let is_shown = |line: &&str| {
            line.starts_with("lab:") || line.contains(": figure:") || result(line).is_some()
        };
        self.text.lines().filter(is_shown)
    }

    /// The whole output of the tests that failed, as the runner prints it at its end.
    pub fn failures(&self) -> impl Iterator<Item = &'a str> {
        let mut within = false;
        self.text.lines().filter(move |line| {
            within |= *line == "failures:";
            let shown = within;
            within &= !line.starts_with("test result: ");
            shown
        })
    }

    pub fn last_line(&self) -> &'a str {
        self.text.lines().last().unwrap_or_default()
    }
}

fn result(line: &str) -> Option<(&str, bool)> {
    let (name, rest) = line.split_once(": ")?;
    let is_name = name.contains("::") && !name.contains(char::is_whitespace);
    let passed = rest.starts_with("ok in ");
    (is_name && (passed || rest.starts_with("FAILED in "))).then_some((name, passed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "lab: Linux 6.12, 1 vCPUs, up after 9.1 s
runtime io.sandbox.v1, engine kvm

exec::input_and_its_end: begins

jail::secrets_stay_inside: begins

exec::input_and_its_end: ok in 12.3 s
exec::input_and_its_end: figure: 3 ms

jail::secrets_stay_inside: FAILED in 4.0 s
failures:
---- jail::secrets_stay_inside ----
note: ok in theory
test result: FAILED. 1 passed; 1 failed
the end";

    #[test]
    fn results_and_beginnings() {
        let log = Log::new(TEXT);
        let names = ["exec::input_and_its_end", "jail::secrets_stay_inside"];
        assert_eq!(log.begun().collect::<Vec<_>>(), names);
        assert_eq!(log.results().collect::<Vec<_>>(), [(names[0], true), (names[1], false)]);
        assert_eq!(log.last_line(), "the end");
    }

    #[test]
    fn what_is_shown() {
        let log = Log::new(TEXT);
        assert_eq!(log.progress().count(), 4);
        let failures: Vec<&str> = log.failures().collect();
        assert_eq!(failures.len(), 4);
        assert_eq!((failures[0], failures[2]), ("failures:", "note: ok in theory"));
    }
}
