//! The marking stages of all profiles, as a tree: what profiles begin with alike is there once, and runs once a batch.
//!
//! The stages of the profile at work are the real ones, so those of its path here rest and hold no state. All others run on
//! every batch, each on the marks of the one before it. They count nothing in public and explain nothing; when a profile is
//! chosen they give their state to the real ones.

use std::time::Instant;

use phoenix_pipeline::{ComponentId, Context, Delivery, Handover, Marks, Processor, Stage, Stages};
use phoenix_telemetry::Batch;

use super::folding::Folding;

/// What a profile does before its `aggregate`, and the rules of that.
pub(super) struct Path {
    /// Its stages in order.
    pub(super) stages: Vec<Stage>,
    /// Whether one of them changes more than marks: then it needs a batch of its own, and shares no stage.
    pub(super) edits: bool,
    pub(super) folding: Option<Folding>,
}

/// A stage behind others.
struct Node {
    /// One.
    stage: Stages,
    id: ComponentId,
    edits: bool,
    next: Vec<usize>,
    /// The profiles of which this is the last.
    last_of: Vec<usize>,
}

/// The tree.
#[derive(Default)]
pub(super) struct Followed {
    nodes: Vec<Node>,
    first: Vec<usize>,
    /// Profiles without stages.
    bare: Vec<usize>,
    /// The nodes of each profile; `None` where it cannot be followed.
    paths: Vec<Option<Vec<usize>>>,
    /// Marks of branches, reused from batch to batch.
    spare: Vec<Marks>,
}

/// Is told of a profile, the batch as it has it, and its marks.
pub(super) type Tell<'t> = &'t mut dyn FnMut(usize, &Batch, &Marks);

impl Followed {
    /// Of all profiles in order; `None` for one that cannot be followed.
    pub(super) fn new(paths: Vec<Option<Path>>) -> Self {
        let mut tree = Followed::default();
        for (profile, path) in paths.into_iter().enumerate() {
            let path = path.map(|path| tree.put(profile, path));
            tree.paths.push(path);
        }
        tree
    }

    fn put(&mut self, profile: usize, Path { stages, edits, .. }: Path) -> Vec<usize> {
        let mut path: Vec<usize> = Vec::with_capacity(stages.len());
        for stage in stages {
            let id = stage.id().clone();
            let known = self.behind(path.last().copied()).iter().copied().find(|at| {
                let node = self.nodes.get(*at);
                node.is_some_and(|node| node.id == id && !node.edits && !edits)
            });
            let at = known.unwrap_or_else(|| {
                let at = self.nodes.len();
                let stage = Stages::new(vec![stage]);
                self.nodes.push(Node { stage, id, edits, next: Vec::new(), last_of: Vec::new() });
                match path.last().and_then(|last| self.nodes.get_mut(*last)) {
                    Some(last) => last.next.push(at),
                    None => self.first.push(at),
                }
                at
            });
            path.push(at);
        }
        match path.last().and_then(|last| self.nodes.get_mut(*last)) {
            Some(last) => last.last_of.push(profile),
            None => self.bare.push(profile),
        }
        path
    }

    /// The nodes that come next.
    fn behind(&self, node: Option<usize>) -> &[usize] {
        match node {
            None => &self.first,
            Some(at) => self.nodes.get(at).map_or(&[], |node| &node.next),
        }
    }

    fn path(&self, profile: usize) -> &[usize] {
        self.paths.get(profile).and_then(Option::as_deref).unwrap_or_default()
    }

    /// The first `done` stages of the profile at work have marked a batch: runs those of others that follow them and are not
    /// its own, and tells of every other profile that has all its marks.
    pub(super) fn follow(
        &mut self,
        (active, done): (usize, usize),
        batch: &mut Batch,
        marks: &Marks,
        now: Instant,
        tell: Tell<'_>,
    ) {
        let path = self.path(active);
        if done > path.len() {
            // It is not followed, so nobody shares a stage with it.
            return;
        }
        let (last, own) = (done.checked_sub(1).and_then(|last| path.get(last)), path.get(done).copied());
        let node = last.and_then(|at| self.nodes.get(*at));
        let (last_of, next) = node.map_or((&self.bare, &self.first), |node| (&node.last_of, &node.next));
        for profile in last_of.iter().filter(|profile| **profile != active) {
            tell(*profile, batch, marks);
        }
        let branches: Vec<usize> = next.iter().copied().filter(|next| Some(*next) != own).collect();
        for branch in branches {
            self.branch(branch, batch, marks, now, tell);
        }
    }

    /// Runs a branch on marks of its own.
    fn branch(&mut self, at: usize, batch: &mut Batch, marks: &Marks, now: Instant, tell: Tell<'_>) {
        let mut own = self.spare.pop().unwrap_or_default();
        own.clone_from(marks);
        if self.nodes.get(at).is_some_and(|node| node.edits) {
            self.run(at, &mut batch.clone(), &mut own, now, tell);
        } else {
            self.run(at, batch, &mut own, now, tell);
        }
        self.spare.push(own);
    }

    /// Runs a stage and all behind it.
    fn run(&mut self, at: usize, batch: &mut Batch, marks: &mut Marks, now: Instant, tell: Tell<'_>) {
        let Some(node) = self.nodes.get_mut(at) else { return };
        if !batch.is_empty() {
            let mut delivery = Delivery::none();
            node.stage.process(0, batch, &mut Context { now, delivery: &mut delivery, marks });
        }
        for profile in &node.last_of {
            tell(*profile, batch, marks);
        }
        let Some((last, others)) = node.next.split_last() else { return };
        let (last, others) = (*last, others.to_vec());
        for other in others {
            self.branch(other, batch, marks, now, tell);
        }
        self.run(last, batch, marks, now, tell);
    }

    /// All processors.
    pub(super) fn processors(&mut self) -> impl Iterator<Item = &mut dyn Processor> {
        self.nodes.iter_mut().flat_map(|node| node.stage.processors())
    }

    /// One profile gives way to another: the new stages take over from the old, by id. What only the profile that leaves
    /// had goes on here, and what only the one that comes has comes from here. Says what became of the old.
    pub(super) fn exchange(
        &mut self,
        (from, old): (usize, &mut Stages),
        (to, new): (usize, &mut Stages),
    ) -> Vec<(ComponentId, Handover)> {
        let [left, entered] = [(from, to), (to, from)].map(|(one, other)| {
            let other = self.path(other);
            let apart: Vec<usize> = self.path(one).iter().copied().filter(|at| !other.contains(at)).collect();
            apart
        });
        // In this order: a stage gives its state away once.
        for pair in left.iter().flat_map(|left| entered.iter().map(move |entered| [*left, *entered])) {
            if let Ok([left, entered]) = self.nodes.get_disjoint_mut(pair) {
                left.stage.inherit(&mut entered.stage);
            }
        }
        let mut report = new.adopt(old);
        for at in left {
            let Some(node) = self.nodes.get_mut(at) else { continue };
            for (id, handover) in node.stage.inherit(old) {
                if let Some((_, told)) = report.iter_mut().find(|(known, _)| *known == id) {
                    *told = handover;
                }
            }
        }
        for at in entered {
            self.nodes.get_mut(at).into_iter().for_each(|node| drop(new.inherit(&mut node.stage)));
        }
        report
    }

    /// Takes over what another tree's stages know, by profile and id: `same` are the profiles of this one and that one that
    /// are the same.
    pub(super) fn adopt(&mut self, previous: &mut Followed, same: &[(usize, usize)]) {
        for (ours, theirs) in same.iter().copied() {
            for at in self.paths.get(ours).and_then(Option::as_deref).unwrap_or_default() {
                for before in previous.paths.get(theirs).and_then(Option::as_deref).unwrap_or_default() {
                    if let (Some(node), Some(before)) = (self.nodes.get_mut(*at), previous.nodes.get_mut(*before)) {
                        node.stage.inherit(&mut before.stage);
                    }
                }
            }
        }
    }
}
