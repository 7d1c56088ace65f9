//! What the thinning stages say about a batch: which entities stay individual and which may be folded.
//!
//! An entity is a resource, or where a stage works on attributes, a single point. Stages only mark; one stage,
//! `aggregate`, acts on the marks. **Nothing is folded that no stage marked, and `keep` wins over `fold` in any order.**
//! Marks live as long as one run of a batch through the chain; they never become attributes.

use std::collections::HashMap;
use std::sync::Arc;

use phoenix_telemetry::{PointId, ResourceId};

/// How much an entity matters, by rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Folded unless something else keeps it.
    Low,
    /// No rule named it.
    #[default]
    Normal,
    /// Wins ties.
    High,
    /// Never folded.
    Critical,
}

/// What is to become of an entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Decision {
    /// No stage has marked it: it stays individual.
    #[default]
    Open,
    /// It may be folded into a group.
    Fold,
    /// It stays individual, whatever other stages say.
    Keep,
}

/// A decision, the class of the entity, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The decision.
    pub decision: Decision,
    /// The class a rule gave.
    pub class: Class,
    /// Why: a short word of the stage that decided, such as `topk_rank`; empty while nobody has.
    pub reason: &'static str,
}

/// What is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entity {
    /// All points of a resource.
    Resource(ResourceId),
    /// One point.
    Point(PointId),
}

/// An attribute of the points of a metric that is to be summed over: series that differ in nothing else become one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttributeFold {
    /// The metric's name.
    pub metric: Arc<str>,
    /// The attribute's key.
    pub attribute: Arc<str>,
}

/// The marks of one batch. Ids are those of the batch; a stage that joins or splits batches makes them void.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    resources: Vec<Mark>,
    points: HashMap<PointId, Mark>,
    attributes: Arc<[AttributeFold]>,
}

impl Marks {
    /// The mark of an entity itself. A point that has none of its own has that of its resource; see [`Marks::decide`].
    #[inline]
    pub fn of(&self, entity: Entity) -> Mark {
        match entity {
            Entity::Resource(id) => self.resources.get(id.index()).copied().unwrap_or_default(),
            Entity::Point(id) => self.points.get(&id).copied().unwrap_or_default(),
        }
    }

    /// What is to become of a point: its own mark and its resource's together, `keep` before `fold`.
    pub fn decide(&self, resource: ResourceId, point: PointId) -> Mark {
        let of_resource = self.of(Entity::Resource(resource));
        match self.points.get(&point) {
            None => of_resource,
            Some(own) if own.decision == Decision::Open || of_resource.decision == Decision::Keep => of_resource,
            Some(own) => *own,
        }
    }

    /// Marks an entity. A `Keep` stays; a `Fold` gives way to it; the first reason of a decision stays.
    #[inline]
    pub fn mark(&mut self, entity: Entity, decision: Decision, reason: &'static str) {
        let mark = self.entry(entity);
        let stronger = matches!((mark.decision, decision), (Decision::Open, _) | (Decision::Fold, Decision::Keep));
        if stronger && decision != Decision::Open {
            mark.decision = decision;
            mark.reason = reason;
        }
    }

    /// Gives an entity a class. The caller applies its rules in order; the last call holds.
    pub fn classify(&mut self, entity: Entity, class: Class) {
        self.entry(entity).class = class;
    }

    /// Names the attributes that are to be summed over, wherever an entity is not kept.
    pub fn fold_attributes(&mut self, folds: &Arc<[AttributeFold]>) {
        self.attributes = Arc::clone(folds);
    }

    /// The attributes that are to be summed over.
    pub fn attributes(&self) -> &[AttributeFold] {
        &self.attributes
    }

    /// Whether anything is marked to be folded.
    pub fn any_fold(&self) -> bool {
        self.resources.iter().chain(self.points.values()).any(|mark| mark.decision == Decision::Fold)
    }

    /// Whether single points are marked, and not resources alone.
    pub fn any_point(&self) -> bool {
        !self.points.is_empty()
    }

    /// Forgets everything, keeping the memory for the next batch.
    pub fn clear(&mut self) {
        self.resources.clear();
        self.points.clear();
        if !self.attributes.is_empty() {
            self.attributes = Arc::default();
        }
    }

    #[inline(always)]
    fn entry(&mut self, entity: Entity) -> &mut Mark {
        match entity {
            Entity::Point(id) => self.points.entry(id).or_default(),
            Entity::Resource(id) => {
                let index = id.index();
                if self.resources.len() <= index {
                    self.grow(index);
                }
                &mut self.resources[index]
            }
        }
    }

    #[cold]
    fn grow(&mut self, index: usize) {
        self.resources.resize((index + 1).next_power_of_two(), Mark::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_telemetry::{Batch, BatchBuilder, Descriptor, Number, Shape};

    fn batch() -> Batch {
        let mut builder = BatchBuilder::new();
        for pid in [1, 2] {
            let mut resource = builder.resource();
            resource.attribute("process.pid", pid);
            let mut scope = resource.scope("s", "");
            scope.metric(&Descriptor { name: "m", unit: "1", description: "", shape: Shape::Gauge }).point(
                0,
                1,
                Number::Int(1),
                &[],
            );
        }
        builder.finish()
    }

    #[test]
    fn keep_wins_in_any_order_and_the_deciding_reason_stays() {
        let batch = batch();
        let ids: Vec<ResourceId> = batch.resources().map(|resource| resource.id()).collect();
        let mut marks = Marks::default();
        let (a, b) = (Entity::Resource(ids[0]), Entity::Resource(ids[1]));
        marks.mark(a, Decision::Fold, "topk_rank");
        marks.mark(a, Decision::Keep, "critical");
        marks.mark(a, Decision::Fold, "threshold");
        assert_eq!(marks.of(a), Mark { decision: Decision::Keep, class: Class::Normal, reason: "critical" });
        marks.mark(b, Decision::Keep, "critical");
        marks.mark(b, Decision::Fold, "topk_rank");
        assert_eq!(marks.of(b).reason, "critical");
        assert!(!marks.any_fold());
    }

    #[test]
    fn a_point_follows_its_resource_unless_marked_itself() {
        let batch = batch();
        let point = batch.series().next().unwrap();
        let (resource, point) = (point.metric().resource().id(), point.id());
        let mut marks = Marks::default();
        assert_eq!(marks.decide(resource, point).decision, Decision::Open);
        marks.mark(Entity::Point(point), Decision::Fold, "series_rank");
        assert_eq!(marks.decide(resource, point).reason, "series_rank");
        marks.mark(Entity::Resource(resource), Decision::Keep, "critical");
        assert_eq!(marks.decide(resource, point).decision, Decision::Keep);
        marks.clear();
        assert_eq!(marks.of(Entity::Resource(resource)), Mark::default());
    }
}
