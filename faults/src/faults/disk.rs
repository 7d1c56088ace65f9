//! The queue on disk: the agent killed, the disk full, read-only.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tokio::time::sleep;

use super::{DRAIN, Form, OUT};
use crate::Fault;
use crate::agent::PATIENCE;
use crate::load::{self, Protocol};
use crate::sink::Mood;
use crate::world::{Outcome, Queue, Setup, World};

/// The window of the default settings.
const WINDOW: Option<Duration> = Some(Duration::from_millis(100));

fn setup(disk: Option<&Path>) -> Setup {
    Setup { queue: Queue::Disk(WINDOW), disk: disk.map(Path::to_owned), ..Setup::default() }
}

/// `kill -9` at random times under load, with the backend there, late and away.
pub async fn killed(form: Form) -> Result<Outcome, Fault> {
    let mut all = Outcome::default();
    for (name, out) in OUT {
        let mut world = World::start(&form.agent, Setup { out, ..setup(None) }).await?;
        let plan = load::Plan { protocol: out, senders: 4, ..load::Plan::default() };
        let load = world.load(&plan)?;
        let rounds = form.pick(6, 250);
        for round in 0..rounds {
            match round % 3 {
                0 => world.sink.moods([Mood::Late(Duration::from_millis(20))]),
                1 => world.relay.down().await,
                _ => world.relay.up().await?,
            }
            sleep(Duration::from_millis(50 + round * 7919 % 350)).await;
            world.agent.kill().await?;
            world.restart().await?;
        }
        world.sink.moods([Mood::Take]);
        sleep(Duration::from_millis(300)).await;
        let heard = load.stop().await;
        world.notes.push(format!("{rounds} kills; senders heard {}", heard.summary()));
        all.add(name, world.close(DRAIN).await?);
    }
    Ok(all)
}

/// A file system in memory, of its own.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(size: &str) -> Result<Self, Fault> {
        let mount = Mount(tempfile::tempdir()?);
        mount.mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "none"])?;
        Ok(mount)
    }

    fn mount(&self, options: &[&str]) -> Result<(), Fault> {
        let status = Command::new("mount").args(options).arg(self.0.path()).status()?;
        if status.success() { Ok(()) } else { Err(format!("mount {options:?}: {status}").into()) }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // It ends with this process's namespace in any case.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// The requests OK'd and refused over a while.
async fn over(load: &load::Load, time: Duration) -> (u64, u64) {
    let count = |heard: &load::Heard| (heard.ok(), heard.answers.values().sum::<u64>() - heard.ok());
    let before = count(&load.heard());
    sleep(time).await;
    let after = count(&load.heard());
    (after.0 - before.0, after.1 - before.1)
}

/// Fills the disk in two ways: by a backend that is away, and by a stranger's file.
pub async fn full(form: Form) -> Result<Outcome, Fault> {
    let disk = Mount::new("4m")?;
    let mut world = World::start(&form.agent, setup(Some(&disk.0.path().join("queue")))).await?;
    let load = world.load(&load::Plan { padding: 200, ..load::Plan::default() })?;
    let step = Duration::from_millis(form.pick(700, 5000));
    for round in 0..form.pick(1, 5) {
        world.relay.down().await;
        let began = std::time::Instant::now();
        while over(&load, step).await.1 == 0 {
            if began.elapsed() > PATIENCE {
                return Err("the disk is not full".into());
            }
        }
        let (ok, refused) = over(&load, step).await;
        world.notes.push(format!("full by the queue: {ok} requests OK, {refused} refused"));
        if world.agent.health().await?.0 != 200 {
            world.wrong.push("a full disk made the agent unready".to_owned());
        }
        if round % 2 == 1 {
            world.agent.kill().await?;
            world.restart().await?;
        }
        world.relay.up().await?;
        recovered(&mut world, &load, "the backend is back").await?;

        fs::write(disk.0.path().join("stranger"), vec![7; 16 << 20]).err().ok_or("the disk is larger than it is")?;
        let (ok, refused) = over(&load, step).await;
        world.notes.push(format!("full by a stranger: {ok} requests OK, {refused} refused"));
        fs::remove_file(disk.0.path().join("stranger"))?;
        recovered(&mut world, &load, "there is space").await?;
    }
    load.stop().await;
    world.close(DRAIN).await
}

/// Waits until a while passes without refusals.
async fn recovered(world: &mut World, load: &load::Load, when: &str) -> Result<(), Fault> {
    let began = std::time::Instant::now();
    loop {
        let (ok, refused) = over(load, Duration::from_millis(300)).await;
        if ok > 0 && refused == 0 {
            world.notes.push(format!("OK {:.1} s after {when}", began.elapsed().as_secs_f64()));
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            world.wrong.push(format!("still refused {PATIENCE:?} after {when}: {}", load.heard().summary()));
            return Ok(());
        }
    }
}

/// A start on a disk that has become read-only, with data in the queue.
pub async fn read_only(form: Form) -> Result<Outcome, Fault> {
    let disk = Mount::new("64m")?;
    let mut world = World::start(&form.agent, setup(Some(&disk.0.path().join("queue")))).await?;
    world.relay.down().await;
    let load = world.load(&load::Plan::default())?;
    sleep(Duration::from_millis(form.pick(700, 10_000))).await;
    load.stop().await;
    world.end(PATIENCE).await?;
    disk.mount(&["-o", "remount,ro"])?;
    world.relay.up().await?;
    world.restart().await?;
    let load = world.load(&load::Plan::default())?;
    let (ok, refused) = over(&load, Duration::from_millis(form.pick(1500, 5000))).await;
    world.notes.push(format!(
        "read-only: {} points still missing, {ok} requests OK, {refused} refused",
        world.oracle.verdict().missing
    ));
    if ok > 0 {
        world.wrong.push("OK was said for what cannot be on the disk".to_owned());
    }
    disk.mount(&["-o", "remount,rw"])?;
    recovered(&mut world, &load, "it can be written").await?;
    load.stop().await;
    world.close(DRAIN).await
}

/// SIGTERM with a full queue and a dead backend, in memory and on disk.
pub async fn ended(form: Form) -> Result<Outcome, Fault> {
    let (memory, disk) = tokio::join!(ended_with(&form, Queue::Memory), ended_with(&form, Queue::Disk(WINDOW)));
    let mut all = Outcome::default();
    all.add("memory", memory?);
    all.add("disk", disk?);
    Ok(all)
}

async fn ended_with(form: &Form, queue: Queue) -> Result<Outcome, Fault> {
    let setup = Setup {
        queue,
        sending_queue: "sizer: requests, queue_size: 100".to_owned(),
        exceptions: &["shutdown"],
        ..Setup::default()
    };
    let mut world = World::start(&form.agent, setup).await?;
    world.relay.down().await;
    let load = world.load(&load::Plan { protocol: Protocol::Grpc, ..load::Plan::default() })?;
    sleep(Duration::from_secs(1)).await;
    let refused = over(&load, Duration::from_millis(500)).await.1;
    if refused == 0 {
        world.wrong.push("the queue did not fill".to_owned());
    }
    // SIGTERM comes under load.
    let took = world.end(Duration::from_secs(30)).await?;
    load.stop().await;
    let log = world.agent.log();
    let points: u64 = log.lines().filter_map(given_up).sum();
    world.notes.push(format!("ended in {:.1} s", took.as_secs_f64()));
    match queue {
        Queue::Memory => {
            world.notes.push(format!("{points} points logged as given up"));
            world.count_also("shutdown", points);
            Ok(world.outcome())
        }
        Queue::Disk(_) => {
            if points > 0 {
                world.wrong.push(format!("{points} points given up that are on the disk"));
            }
            world.relay.up().await?;
            world.restart().await?;
            world.close(DRAIN).await
        }
    }
}

/// The points in a log line that says that some are dropped.
fn given_up(line: &str) -> Option<u64> {
    let before = line.split_once(" data points are dropped")?.0;
    before.rsplit_once(' ').map_or(before, |(_, number)| number).parse().ok()
}
