//! What processes used between their last reading and their end, as far as `/proc` says it.
//!
//! When a parent waits for a child, the kernel adds the child's times, and those that the child itself had waited for, to
//! what the parent shows as waited for (`cutime`, `cstime`). So the growth of a parent's waited-for times, less what its dead
//! children had used by their last readings, is what they used after that, and what children used that no scrape ever met.
//! The two cannot be told apart. A dead process therefore gets no more than it can have used: the time since its last
//! reading on each of its threads, on no more CPUs than the host has. The rest stays unattributed; nothing is
//! ever given to a process of another parent.
//!
//! A process whose parent ended too was waited for by that parent before, or by the living ancestor that inherited it: the
//! nearest one whose growth covers it. A parent that ignores its children (`SIGCHLD`) covers none, and they get nothing.
//!
//! Pure: reads nothing and knows no metric.

use std::collections::HashMap;
use std::time::Instant;

/// CPU times in clock ticks: user, system.
pub(crate) type Ticks = [u64; 2];

/// The CPU times of a process at a reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub at: Instant,
    pub own: Ticks,
    /// Those of the children that it waited for, and of theirs.
    pub waited: Ticks,
    /// Waiting for block I/O; parents are not told of it.
    pub wait: u64,
    /// How many threads could run on after this reading.
    pub threads: u64,
    /// CPUs it kept busy on average between the reading before, or its creation, and this one.
    pub rate: f64,
}

/// A process that is gone, at its last reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub pid: u32,
    /// Creation, clock ticks after boot.
    pub start: u64,
    pub parent: i64,
    pub times: Times,
}

impl Exit {
    /// One that gets nothing, and whose times explain what its parent has waited for.
    pub(crate) fn untold(mut self) -> Self {
        self.times.threads = 0;
        self
    }
}

/// A process that is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kin {
    /// Creation, clock ticks after boot.
    pub start: u64,
    pub parent: i64,
    /// How much its waited-for times grew since the scrape before; `None`: it was not read then.
    pub grown: Option<Ticks>,
    /// A zombie: its children have another parent by now.
    pub ended: bool,
}

/// How far a family is followed upwards. Shells, build tools and supervisors are rarely nested so deep.
const GENERATIONS: usize = 32;

/// What a parent waited for in one interval, and whose it is.
struct Account {
    left: Ticks,
    members: Vec<usize>,
}

/// The clock ticks that each of `exits` used after its last reading. `living` finds a process that was read in this scrape, `now` is
/// its moment, `cpus` the number of the host's.
pub(crate) fn tails(
    exits: &[Exit],
    living: impl Fn(u32) -> Option<Kin>,
    now: Instant,
    (cpus, ticks_per_second): (f64, f64),
) -> Vec<[f64; 2]> {
    let mut tails = vec![[0.0; 2]; exits.len()];
    let dead: HashMap<u32, &Exit> = exits.iter().map(|exit| (exit.pid, exit)).collect();
    let mut accounts: HashMap<u32, Account> = HashMap::new();
    // Those who used the most are the surest to tell who waited for them.
    let mut order: Vec<usize> = (0..exits.len()).collect();
    let used = |exit: &Exit| needed(&exit.times).iter().sum::<u64>();
    order.sort_by_key(|index| std::cmp::Reverse(exits.get(*index).map(used)));
    for index in order {
        let Some(exit) = exits.get(index) else { continue };
        let need = needed(&exit.times);
        for (pid, grown) in ancestors(exit, &dead, &living) {
            let account = accounts.entry(pid).or_insert_with(|| Account { left: grown, members: Vec::new() });
            if let (Some(user), Some(system)) =
                (account.left[0].checked_sub(need[0]), account.left[1].checked_sub(need[1]))
            {
                account.left = [user, system];
                account.members.push(index);
                break;
            }
        }
    }
    for account in accounts.values() {
        let members = || account.members.iter().filter_map(|index| Some((*index, &exits.get(*index)?.times)));
        let most = |times: &Times| {
            let elapsed = now.saturating_duration_since(times.at).as_secs_f64();
            elapsed * ticks_per_second * (times.threads as f64).min(cpus)
        };
        let claims: Vec<Claim> = members().map(|(_, times)| Claim { weight: times.rate, most: most(times) }).collect();
        let total: f64 = account.left.iter().map(|ticks| *ticks as f64).sum();
        if total <= 0.0 {
            continue;
        }
        for ((index, _), share) in members().zip(split(total, &claims)) {
            if let Some(tail) = tails.get_mut(index) {
                *tail = account.left.map(|ticks| share * (ticks as f64 / total));
            }
        }
    }
    tails
}

/// What its parent's waited-for times grow by for what was known of it.
fn needed(times: &Times) -> Ticks {
    [times.own[0].saturating_add(times.waited[0]), times.own[1].saturating_add(times.waited[1])]
}

/// The living processes that may have waited for one, nearest first, with the growth of what they waited for: its parent; where
/// that died too, all above it, up to the first of which nothing is known.
fn ancestors(exit: &Exit, dead: &HashMap<u32, &Exit>, living: impl Fn(u32) -> Option<Kin>) -> Vec<(u32, Ticks)> {
    let mut found = Vec::new();
    let (mut parent, mut start, mut orphan) = (exit.parent, exit.start, false);
    for _ in 0..GENERATIONS {
        let Ok(pid) = u32::try_from(parent) else { break };
        // A parent is older than its child: a younger one has only got its id.
        if let Some(above) = dead.get(&pid).filter(|above| above.start <= start && above.pid != exit.pid) {
            (parent, start, orphan) = (above.parent, above.start, true);
            continue;
        }
        let Some(kin) = living(pid).filter(|kin| kin.start <= start) else { break };
        let Some(grown) = kin.grown else { break };
        found.push((pid, grown));
        if !orphan && !kin.ended {
            break;
        }
        (parent, start, orphan) = (kin.parent, kin.start, true);
    }
    found
}

/// What one of several may get.
struct Claim {
    weight: f64,
    most: f64,
}

/// Splits `total` by weight, none above its most; what cannot be placed is left. Those without weight share what the others leave.
fn split(total: f64, claims: &[Claim]) -> Vec<f64> {
    let mut shares = vec![0.0; claims.len()];
    let mut left = total;
    for by_weight in [true, false] {
        // Each round fills at least one to its most, or ends.
        for _ in 0..claims.len() {
            let weight = |claim: &Claim| if by_weight { claim.weight } else { 1.0 };
            let open = |share: f64, claim: &Claim| share < claim.most && weight(claim) > 0.0;
            let sum: f64 = shares.iter().zip(claims).filter(|(s, c)| open(**s, c)).map(|(_, c)| weight(c)).sum();
            if sum <= 0.0 || left <= 0.0 {
                break;
            }
            let given = left;
            let mut filled = false;
            for (share, claim) in shares.iter_mut().zip(claims) {
                if open(*share, claim) {
                    let part = given * weight(claim) / sum;
                    filled |= part >= claim.most - *share;
                    let part = part.min(claim.most - *share);
                    *share += part;
                    left -= part;
                }
            }
            if !filled {
                return shares;
            }
        }
    }
    shares
}
