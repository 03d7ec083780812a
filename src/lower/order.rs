//! The order in which groups run.
//!
//! Data comes before those who read it, and a state's old value is read before it is overwritten where it lies. Where that cannot be,
//! the new value waits elsewhere and is copied when everything else has run. Knows no memory beyond that.

use super::grouping::Group;
use super::place::{Placer, Read};
use crate::error::{Error, Result};
use crate::graph::{Op, Value};
use std::collections::BTreeSet;

impl Placer<'_> {
    fn producer(&self, root: Value, found: &mut BTreeSet<usize>) {
        match self.grouping.assembled.get(&root.node) {
            Some(parts) => parts.iter().for_each(|&part| self.producer(part, found)),
            None => found.extend(self.grouping.group_of[root.node as usize]),
        }
    }

    /// Groups in an order that respects data and lets states be overwritten in place. A state whose
    /// old value is still needed when the new one is written gets it by a copy at the end.
    pub fn order(&mut self) -> Result<Vec<usize>> {
        self.defer_own_readers();
        loop {
            let needs = self.needs();
            match self.sorted(&needs) {
                Ok(order) => return Ok(order),
                Err(stuck) => self.defer_one(&stuck)?,
            }
        }
    }

    fn reads_old(&self, read: &Read, name: &str) -> bool {
        matches!(&self.graph.node(read.root.node).op, Op::State(other) if **other == *name)
    }

    fn writers(&self, root: Value) -> BTreeSet<usize> {
        let mut writers = BTreeSet::new();
        self.producer(root, &mut writers);
        writers
    }

    /// A kernel that reads more of a state than the element that it writes cannot write in place.
    fn defer_own_readers(&mut self) {
        let clashes = |(root, name): (&Value, &String)| {
            let writers = self.writers(*root);
            writers
                .iter()
                .any(|&writer| self.reads[writer].iter().any(|read| self.reads_old(read, name) && !read.elementwise))
        };
        let mut clashing: Vec<Value> =
            self.in_state.iter().filter(|&entry| clashes(entry)).map(|(root, _)| *root).collect();
        crate::sort::sort(&mut clashing);
        for root in clashing {
            self.defer(root);
        }
    }

    fn defer(&mut self, root: Value) {
        if let Some(name) = self.in_state.remove(&root) {
            self.deferred.push((root, name));
        }
    }

    /// Breaks a circle among groups that wait for each other.
    fn defer_one(&mut self, stuck: &BTreeSet<usize>) -> Result<()> {
        // What moves from step to step has no old value that someone waits for, nor has what is added to beside a result.
        let added = |root: &Value| self.grouping.added.iter().any(|(_, sum)| *sum == root.node);
        let waits = |root: &Value| !self.views.walk(*root).moves() && !added(root);
        let mut candidates: Vec<Value> = self.in_state.keys().copied().filter(waits).collect();
        crate::sort::sort(&mut candidates);
        let waiting =
            candidates.into_iter().find(|root| self.writers(*root).iter().any(|writer| stuck.contains(writer)));
        match waiting {
            Some(root) => {
                self.defer(root);
                Ok(())
            }
            None => {
                Err(Error::compile("the graph".into(), "its kernels wait for each other (please report this)".into()))
            }
        }
    }

    /// For each group the groups that must have run before it.
    fn needs(&self) -> Vec<BTreeSet<usize>> {
        let mut needs: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.grouping.groups.len()];
        for (group, reads) in self.reads.iter().enumerate() {
            for read in reads {
                self.producer(read.root, &mut needs[group]);
            }
            needs[group].remove(&group);
        }
        // Whoever reads the old value of a state runs before it is overwritten.
        for (root, name) in &self.in_state {
            for writer in self.writers(*root) {
                let readers = (0..self.reads.len())
                    .filter(|&group| self.reads[group].iter().any(|read| self.reads_old(read, name)));
                needs[writer].extend(readers.filter(|&reader| reader != writer));
            }
        }
        needs
    }

    /// A topological order, earlier nodes first; or the groups that are left in circles.
    fn sorted(&self, needs: &[BTreeSet<usize>]) -> std::result::Result<Vec<usize>, BTreeSet<usize>> {
        let key = |group: usize| {
            let Group { anchor, members, .. } = &self.grouping.groups[group];
            anchor.or(members.last().copied()).unwrap_or(0)
        };
        // Put in one by one: collecting would bring another sort into the program.
        let mut waiting = BTreeSet::new();
        waiting.extend((0..needs.len()).map(|group| (key(group), group)));
        let (mut order, mut done) = (Vec::new(), vec![false; needs.len()]);
        while !waiting.is_empty() {
            let ready = waiting.iter().copied().find(|(_, group)| needs[*group].iter().all(|&other| done[other]));
            let Some(next) = ready else {
                return Err(waiting.into_iter().map(|(_, group)| group).collect());
            };
            waiting.remove(&next);
            done[next.1] = true;
            order.push(next.1);
        }
        Ok(order)
    }
}
