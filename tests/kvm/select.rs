//! Which tests run, and in which lab.

/// Tests that labs leave out, with the reasons.
const LEFT_OUT: &str = include_str!("left-out");
/// Tests that `make test` runs in a lab.
const CORE: &str = include_str!("core");

/// What the argument selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All tests, in labs all but those that `left-out` names.
    Suite,
    /// The tests that `core` names.
    Core,
    /// All tests, in labs too.
    All,
    /// Every `of`-th test of the suite, from the test at `index`.
    Piece { index: usize, of: usize },
    /// Tests whose name contains it.
    Matching(String),
}

impl Selection {
    /// Reads the argument; an empty one selects the suite.
    pub fn new(argument: &str) -> Self {
        match argument {
            "" => Self::Suite,
            "core" => Self::Core,
            "all" => Self::All,
            _ => piece(argument).unwrap_or_else(|| Self::Matching(argument.to_owned())),
        }
    }

    /// The names that it selects from all. An error if there is none, or if a
    /// list names a test that does not exist.
    pub fn of(&self, all: &[String], in_labs: bool) -> Result<Vec<String>, String> {
        let left_out = if in_labs { listed(LEFT_OUT, "left-out", all)? } else { vec![] };
        let suite = || all.iter().filter(|test| !left_out.contains(&test.as_str()));
        let chosen: Vec<String> = match self {
            Self::Suite => suite().cloned().collect(),
            Self::Core => listed(CORE, "core", all)?.into_iter().map(str::to_owned).collect(),
            Self::All => all.to_vec(),
            Self::Piece { index, of } => suite().skip(*index).step_by(*of).cloned().collect(),
            Self::Matching(part) => {
                all.iter().filter(|test| test.contains(part.as_str())).cloned().collect()
            }
        };
        if chosen.is_empty() { Err(format!("no test is selected by {self:?}")) } else { Ok(chosen) }
    }
}

/// Reads `2of3`.
fn piece(text: &str) -> Option<Selection> {
    let (number, of) = text.split_once("of")?;
    let (number, of): (usize, usize) = (number.parse().ok()?, of.parse().ok()?);
    (1..=of).contains(&number).then(|| Selection::Piece { index: number - 1, of })
}

/// The names in a file, which has comments and empty lines, too.
fn listed<'a>(text: &'a str, file: &str, all: &[String]) -> Result<Vec<&'a str>, String> {
    let names = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names: Vec<&str> = names.collect();
    match names.iter().find(|name| !all.iter().any(|test| test == *name)) {
        Some(name) => Err(format!("tests/kvm/{file} names {name}: there is no such test")),
        None => Ok(names),
    }
}

/// Deals tests to labs in turn; a lab without a test is left out.
pub fn deal(tests: &[String], labs: usize) -> Vec<Vec<String>> {
    let labs = labs.min(tests.len());
    (0..labs).map(|lab| tests.iter().skip(lab).step_by(labs).cloned().collect()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The names in both lists and some that neither has.
    fn all() -> Vec<String> {
        let lists = LEFT_OUT.lines().chain(CORE.lines());
        let listed = lists.filter(|line| !line.is_empty() && !line.starts_with('#'));
        listed.chain(["other::one", "other::two", "other::three"]).map(str::to_owned).collect()
    }

    #[test]
    fn arguments() {
        assert_eq!(Selection::new(""), Selection::Suite);
        assert_eq!(Selection::new("core"), Selection::Core);
        assert_eq!(Selection::new("2of3"), Selection::Piece { index: 1, of: 3 });
        for name in ["4of3", "0of3", "of", "one_of_them", "lifecycle"] {
            assert_eq!(Selection::new(name), Selection::Matching(name.to_owned()));
        }
    }

    #[test]
    fn labs_leave_out_what_the_list_names() {
        let chosen = Selection::Suite.of(&all(), true).unwrap();
        assert!(!chosen.contains(&"figures::start_to_finish_of_true".to_owned()));
        assert!(chosen.contains(&"other::one".to_owned()));
        assert_eq!(Selection::All.of(&all(), true).unwrap(), all());
        assert_eq!(Selection::Suite.of(&all(), false).unwrap(), all());
    }

    #[test]
    fn no_test_of_the_core_is_left_out() {
        let suite = Selection::Suite.of(&all(), true).unwrap();
        for test in Selection::Core.of(&all(), true).unwrap() {
            assert!(suite.contains(&test), "{test}");
        }
    }

    #[test]
    fn pieces_make_up_the_suite() {
        let pieces = (1..=3).map(|n| Selection::new(&format!("{n}of3")).of(&all(), true).unwrap());
        let mut together: Vec<String> = pieces.flatten().collect();
        let mut suite = Selection::Suite.of(&all(), true).unwrap();
        together.sort();
        suite.sort();
        assert_eq!(together, suite);
    }

    #[test]
    fn names_without_a_test_are_errors() {
        let some = ["other::one".to_owned()];
        assert!(Selection::Core.of(&some, false).unwrap_err().contains("tests/kvm/core names"));
        assert!(Selection::Suite.of(&some, true).unwrap_err().contains("tests/kvm/left-out"));
        assert!(Selection::new("nothing_has_this").of(&all(), true).is_err());
    }

    #[test]
    fn labs_get_tests_in_turn() {
        let tests = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(deal(&tests, 2), [vec!["a", "c"], vec!["b"]]);
        assert_eq!(deal(&tests[..1], 2), [vec!["a"]]);
        assert!(deal(&[], 2).is_empty());
    }
}
