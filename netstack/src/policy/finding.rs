/// A key, or a place in a list, on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(&'static str),
    Own(String),
    Index(usize),
}

/// Something that a check found, where the text is not at hand.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub path: Vec<Step>,
    pub what: String,
}

pub(super) fn at(path: impl Into<Vec<Step>>, what: impl Into<String>) -> Finding {
    Finding { path: path.into(), what: what.into() }
}

/// A finding about a key of a rule.
pub(super) fn in_rule(index: usize, key: &'static str, what: impl Into<String>) -> Finding {
    at([Step::Key("rule"), Step::Index(index), Step::Key(key)], what)
}

/// `rule[2].cidr`, counted from 1 as people do.
pub(super) fn spell(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => text.push_str(&format!("[{}]", index + 1)),
            Step::Key(key) => add(&mut text, key),
            Step::Own(key) => add(&mut text, key),
        }
    }
    text
}

fn add(text: &mut String, key: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    text.push_str(key);
}
