//! A container that does one line of shell after the other, as the test says.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Bed, Run, until};

/// The longest that a line may take.
const LIMIT: Duration = Duration::from_secs(180);

/// Takes lines from a folder that the test shares with it, and puts there
/// what they said.
const LOOP: &str = "cd /lines; n=0; while true; do until test -e $n; do usleep 10000; done; \
                    sh ./$n >$n.new 2>&1; mv $n.new $n.told; n=$((n+1)); done";

/// It runs until [`Shell::end`].
pub struct Shell<'a> {
    bed: &'a Bed,
    id: String,
    dir: PathBuf,
    next: Cell<usize>,
}

impl<'a> Shell<'a> {
    pub(crate) fn start(bed: &'a Bed, name: &str, run: Run<'a>) -> Self {
        let dir = bed.dir().join(format!("lines-{name}"));
        fs::create_dir(&dir).unwrap();
        let flag = format!("--mount=type=bind,src={},dst=/lines,options=rbind:rw", dir.display());
        let id = run.flags(&[flag]).detached(&["sh", "-c", LOOP]);
        Self { bed, id, dir, next: Cell::new(0) }
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Begins a line in the background; the file, once it is there, has what it
    /// said.
    pub fn begin(&self, line: &str) -> PathBuf {
        let name = format!("{}.ended", self.next.get());
        let told = self.put(&format!(
            "{{ {{ {line}\n}} >{name}.new 2>&1; mv {name}.new {name}; }} </dev/null >/dev/null 2>&1 &"
        ));
        until("the line is begun", LIMIT, || told.exists().then_some(()));
        self.dir.join(name)
    }

    /// Hands it a line; gives the file of what it says.
    fn put(&self, line: &str) -> PathBuf {
        let number = self.next.replace(self.next.get() + 1).to_string();
        let new = self.dir.join("new");
        fs::write(&new, line).unwrap();
        fs::rename(new, self.dir.join(&number)).unwrap();
        self.dir.join(format!("{number}.told"))
    }

    /// Does a line; gives what it said on either stream.
    pub fn line(&self, line: &str) -> String {
        let told = self.put(line);
        let text = until(line, LIMIT, || fs::read_to_string(&told).ok());
        text.trim().to_owned()
    }

    /// Removes the container.
    pub fn end(self) {
        self.bed.remove(&self.id);
    }
}
