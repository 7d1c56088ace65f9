use super::*;

const A: GroupId = GroupId::at(1);
const B: GroupId = GroupId::at(2);
const FOLD: Holder = Holder::Group(A);

fn at(start: u64, time: u64, value: i64) -> Reading {
    Reading { start, time, value: Number::Int(value) }
}

fn to(outcome: Outcome) -> (Write, Number, Holder) {
    (outcome.write, outcome.increment, outcome.to)
}

/// A series first seen at 10, before which the host was scraped at 5.
fn seen(decided: Holder) -> Life {
    Life::first(at(1, 10, 100), Some(5), decided).0
}

#[test]
fn never_seen() {
    let (_, outcome) = Life::first(at(1, 10, 100), Some(5), Holder::Individual);
    assert_eq!(to(outcome), (Write::Untouched, Number::Int(0), Holder::Individual), "older: before our time");
    let (_, outcome) = Life::first(at(7, 10, 100), Some(5), Holder::Individual);
    assert_eq!(to(outcome), (Write::Untouched, Number::Int(100), Holder::Individual), "created since");
    let (_, outcome) = Life::first(at(1, 10, 100), Some(5), FOLD);
    assert_eq!((to(outcome), outcome.opens), ((Write::Nothing, Number::Int(0), FOLD), Some((A, 10))), "baseline only");
    let (_, outcome) = Life::first(at(7, 10, 100), Some(5), FOLD);
    assert_eq!((to(outcome), outcome.opens), ((Write::Nothing, Number::Int(100), FOLD), Some((A, 7))), "whole value");
    let (_, outcome) = Life::first(at(7, 10, 100), None, FOLD);
    assert_eq!(outcome.increment, Number::Int(0), "at the first scrape of a host everything is older");
    let (_, outcome) = Life::first(at(10, 10, 100), Some(5), FOLD);
    assert_eq!(outcome.increment, Number::Int(0), "start = time: reset at an unknown start");
}

#[test]
fn the_rows_of_the_table() {
    let mut life = seen(Holder::Individual);
    let outcome = life.next(at(1, 20, 103), Some(10), Holder::Individual);
    assert_eq!(to(outcome), (Write::Untouched, Number::Int(3), Holder::Individual));
    let outcome = life.next(at(1, 30, 104), Some(20), FOLD);
    assert_eq!((to(outcome), outcome.opens), ((Write::Untouched, Number::Int(1), Holder::Individual), Some((A, 30))));
    assert!(life.closing);
    let outcome = life.next(at(1, 40, 110), Some(30), FOLD);
    assert_eq!(to(outcome), (Write::Nothing, Number::Int(6), FOLD));
    let outcome = life.next(at(1, 50, 111), Some(40), Holder::Individual);
    assert_eq!(to(outcome), (Write::As(50, Number::Int(0)), Number::Int(1), FOLD));
    assert!(!life.closing);
    let outcome = life.next(at(1, 60, 113), Some(50), Holder::Individual);
    assert_eq!(to(outcome), (Write::As(50, Number::Int(2)), Number::Int(2), Holder::Individual));
}

#[test]
fn resets_drift_and_new_lives() {
    let mut life = seen(Holder::Individual);
    let outcome = life.next(at(2, 20, 103), Some(10), Holder::Individual);
    assert_eq!(outcome.write, Write::As(1, Number::Int(103)), "a drifting start is held");
    let outcome = life.next(at(1, 30, 40), Some(20), Holder::Individual);
    assert!(outcome.reset);
    assert_eq!(to(outcome), (Write::As(20, Number::Int(40)), Number::Int(40), Holder::Individual));
    let outcome = life.next(at(35, 40, 50), Some(30), Holder::Individual);
    assert_eq!(
        to(outcome),
        (Write::Untouched, Number::Int(50), Holder::Individual),
        "a new life, though it did not fall"
    );
    let outcome = life.next(at(45, 50, 7), Some(40), FOLD);
    assert_eq!(to(outcome), (Write::Close, Number::Int(7), FOLD), "the individual life ends here");
    let outcome = life.next(at(55, 60, 3), Some(50), Holder::Individual);
    assert_eq!(to(outcome), (Write::Untouched, Number::Int(3), Holder::Individual), "as never seen");
}

#[test]
fn a_series_that_moves_between_groups_leaves_its_increment_behind() {
    let mut life = seen(FOLD);
    let outcome = life.next(at(1, 20, 104), Some(10), Holder::Group(B));
    assert_eq!((to(outcome), outcome.opens), ((Write::Nothing, Number::Int(4), FOLD), Some((B, 20))));
    assert_eq!(life.next(at(1, 30, 105), Some(20), Holder::Group(B)).to, Holder::Group(B));
}

#[test]
fn deltas_belong_to_the_holder_and_open_nothing() {
    let (mut life, outcome) = Life::first_delta(at(5, 10, 4), Holder::Individual);
    assert_eq!(to(outcome), (Write::Untouched, Number::Int(4), Holder::Individual));
    assert_eq!(to(life.next_delta(at(10, 20, 5), FOLD)), (Write::Untouched, Number::Int(5), Holder::Individual));
    assert_eq!(to(life.next_delta(at(20, 30, 6), FOLD)), (Write::Nothing, Number::Int(6), FOLD));
    assert_eq!(to(life.next_delta(at(30, 40, 7), Holder::Individual)), (Write::Nothing, Number::Int(7), FOLD));
    assert_eq!(life.next_delta(at(40, 50, 8), Holder::Individual).write, Write::Untouched);
}

#[test]
fn levels_are_written_individually_in_transition() {
    let (mut life, _) = Life::first_level(at(0, 10, 4), Holder::Individual);
    assert_eq!(life.next_level(at(0, 20, 5), FOLD).write, Write::Untouched);
    assert_eq!(life.next_level(at(0, 30, 5), FOLD).write, Write::Nothing);
    assert_eq!(life.next_level(at(0, 40, 5), Holder::Individual).write, Write::Untouched);
}
