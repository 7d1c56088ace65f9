//! The thread of a queue on disk: it writes what waits in the line in front of it, and hands out what is to be sent.
//!
//! It takes what has come meanwhile as one group and lets the storage sync once for all of it. Records are encoded requests
//! without compression, so that they can be split and be sent with other settings than those they were written under. They
//! are handed out oldest first, those of an earlier run before new ones; new data is taken in all the while. With several
//! consumers requests overtake each other by no more than what is under way.
//!
//! What is not sent when this ends stays on the disk. It never deletes what was not sent, refused for good or evicted by a
//! limit of the settings.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics::Gauge;
use phoenix_pipeline::storage::Storage;
use phoenix_pipeline::{Ack, Delivery, Refusal, Shipment, Site};
use phoenix_storage::{AppendError, Damage, Fsync, Id, Loss, OnFull, OpenError, Queue as Disk, Settings, Stats};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::journal::Journal;
use super::queue::{Parcel, Queue};
use super::spool::{Command, Stored, folder};
use super::{QueueSettings, Sizer};

/// Most parcels written before those who wait for them hear of it, and before anything is read again.
const GROUP: usize = 64;
/// Between two attempts at a disk that failed, and two looks at what has grown too old.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two attempts to open what an exporter that is being replaced still holds.
const HELD: Duration = Duration::from_millis(50);

/// What the gauge of the queue's load shows for the disk; old and new exporter of one id share the gauge.
struct Shown {
    size: Gauge,
    units: f64,
}

impl Shown {
    fn show(&mut self, units: u64) {
        self.size.increment(units as f64 - self.units);
        self.units = units as f64;
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.show(0);
    }
}

/// What the thread owns.
pub(super) struct Keeper {
    site: Site,
    directory: PathBuf,
    settings: Settings,
    sizer: Sizer,
    capacity: u64,
    evict: bool,
    line: Arc<Queue>,
    journal: Arc<Journal>,
    shown: Shown,
    orders: mpsc::UnboundedReceiver<Command>,
    /// Consumers without work.
    waiting: VecDeque<oneshot::Sender<Stored>>,
    /// Nothing is read before this: a read failed, and failures in quick succession say nothing new.
    rests_until: Instant,
    /// Records that consumers have, with their bytes.
    out: BTreeMap<Id, u64>,
    /// Bytes from which on consumers get no more: a backlog of large requests is not all in memory at once.
    most_out: u64,
    /// Who waits for the destination's answer.
    deliveries: BTreeMap<Id, Delivery>,
    /// What has been counted of the storage's losses.
    before: Stats,
}

impl Keeper {
    /// A keeper of the queue below `storage`, not opened yet.
    pub fn new(
        site: &Site,
        storage: &Storage,
        settings: &QueueSettings,
        line: Arc<Queue>,
        journal: Arc<Journal>,
        orders: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        let (sizer, capacity) = (settings.sizer(), settings.capacity());
        Keeper {
            directory: storage.directory.join(folder(site.id.as_str())),
            settings: Settings {
                max_bytes: if sizer == Sizer::Bytes { capacity } else { u64::MAX },
                max_age: storage.max_age,
                fsync: storage.fsync.map_or(Fsync::Never, Fsync::Within),
                ..Settings::default()
            },
            sizer,
            capacity,
            evict: settings.on_full == super::OnFull::EvictOldest,
            line,
            shown: Shown { size: Journal::queue_size(site), units: 0.0 },
            journal,
            site: site.clone(),
            orders,
            waiting: VecDeque::new(),
            rests_until: Instant::now(),
            out: BTreeMap::new(),
            most_out: settings.max_memory_mib.saturating_mul(1 << 20) / 2,
            deliveries: BTreeMap::new(),
            before: Stats::default(),
        }
    }

    /// Keeps the queue until the line in front is closed and the last consumer is gone.
    pub async fn run(mut self) {
        let Some(mut disk) = self.open().await else { return };
        let found = disk.stats();
        if found.records > 0 {
            let (records, points) = (found.records, found.points);
            tracing::info!(exporter = %self.site.id, records, points, "an earlier run left data in the queue; it is sent first");
        }
        let (mut taking, mut sending) = (true, true);
        let mut look = Instant::now();
        while taking || sending {
            self.hand_out(&mut disk);
            self.count(&disk);
            let due = disk.sync_due().map_or(look, |due| look.min(due.into()));
            let line = Arc::clone(&self.line);
            tokio::select! {
                parcel = line.pop(), if taking => match parcel {
                    Some(parcel) => self.write(&mut disk, parcel),
                    None => taking = false,
                },
                order = self.orders.recv(), if sending => match order {
                    Some(order) => self.obey(&mut disk, order),
                    None => sending = false,
                },
                () = sleep_until(due) => self.sync(&mut disk),
            }
            if look <= Instant::now() {
                look = Instant::now() + PAUSE;
                disk.expire(self.site.clock.unix_nanos());
            }
        }
        if self.settings.fsync != Fsync::Never
            && let Err(error) = disk.sync()
        {
            tracing::warn!(exporter = %self.site.id, "the queue's last data may not survive power loss: {error}");
        }
        self.count(&disk);
        for (_, delivery) in std::mem::take(&mut self.deliveries) {
            delivery.refused(Refusal::later("the agent stopped; the data is kept on disk and sent later"));
        }
    }

    /// Opens the queue; none if nobody needs it any more.
    async fn open(&mut self) -> Option<Disk> {
        let mut said = false;
        loop {
            let pause = match Disk::open(&self.directory, self.settings.clone()) {
                Ok(disk) => return Some(disk),
                Err(OpenError::Held(_)) => HELD,
                Err(error) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(exporter = %self.site.id, "the queue on disk cannot be opened, trying again: {error}");
                        self.site.status.recoverable(format!("the queue on disk cannot be opened: {error}"));
                    }
                    PAUSE
                }
            };
            let end = Instant::now() + pause;
            loop {
                tokio::select! {
                    order = self.orders.recv() => match order {
                        Some(Command::Next(consumer)) => self.waiting.push_back(consumer),
                        Some(Command::End(..)) => {}
                        None => return None,
                    },
                    () = sleep_until(end) => break,
                }
            }
        }
    }

    /// Writes a parcel and all that came with it, and tells who hears of it now.
    fn write(&mut self, disk: &mut Disk, first: Parcel) {
        let line = Arc::clone(&self.line);
        let group = std::iter::once(first).chain(std::iter::from_fn(|| line.pop_now())).take(GROUP);
        let mut written = Vec::new();
        for mut parcel in group {
            let mut delivery = parcel.delivery.take();
            let points = parcel.shipment.points();
            let now = self.site.clock.unix_nanos();
            match self.append(disk, &parcel.shipment, delivery.is_awaited(), now) {
                Ok(id) => {
                    delivery.reached(Ack::OnQueue);
                    self.line.keep(id, &parcel.shipment, now);
                    written.push((id, delivery));
                    self.journal.enqueued();
                }
                Err(refusal) => {
                    self.journal.refused(points, &refusal.to_string());
                    delivery.refused(refusal);
                }
            }
        }
        let synced = disk.sync_if_due(std::time::Instant::now());
        for (id, mut delivery) in written {
            match &synced {
                Ok(()) => {
                    delivery.reached(Ack::OnDisk);
                    if delivery.is_awaited() {
                        self.deliveries.insert(id, delivery);
                    }
                }
                // It is sent all the same, and so may be sent twice.
                Err(error) => delivery.refused(Refusal::later(format!("the queue on disk cannot be synced: {error}"))),
            }
        }
        if let Err(error) = synced {
            self.journal.disk(&error.to_string());
        }
    }

    fn append(&mut self, disk: &mut Disk, shipment: &Shipment, awaited: bool, now: u64) -> Result<Id, Refusal> {
        let points = shipment.points() as u64;
        // Data that nobody can send again is worth more than what waits the longest.
        let on_full = if self.evict || !awaited { OnFull::EvictOldest } else { OnFull::Refuse };
        self.room(disk, points, on_full, now)?;
        disk.append(&[&shipment.bytes()], points, now, on_full).map_err(|error| match error {
            AppendError::TooLarge { .. } => Refusal::last(format!("sending queue: {error}")),
            AppendError::Full { .. } => Refusal::later(format!("sending queue is full: {error}")),
            error => Refusal::later(format!("sending queue: {error}")),
        })
    }

    /// Makes room where the queue is not counted in bytes, which the storage does itself.
    fn room(&mut self, disk: &mut Disk, points: u64, on_full: OnFull, now: u64) -> Result<(), Refusal> {
        let more = if self.sizer == Sizer::Items { points } else { 1 };
        let full = || format!("sending queue is full (sending_queue.queue_size, {})", self.capacity);
        if self.sizer != Sizer::Bytes && more > self.capacity {
            return Err(Refusal::last(full()));
        }
        while self.sizer != Sizer::Bytes && self.units(&disk.stats()).saturating_add(more) > self.capacity {
            let oldest = if on_full == OnFull::EvictOldest { disk.next(now).ok().flatten() } else { None };
            let Some(record) = oldest else { return Err(Refusal::later(full())) };
            disk.finish(record.id);
            self.journal.evicted(record.points, "evicted_size");
        }
        Ok(())
    }

    fn units(&self, stats: &Stats) -> u64 {
        match self.sizer {
            Sizer::Requests => stats.records,
            Sizer::Items => stats.points,
            Sizer::Bytes => stats.bytes,
        }
    }

    fn obey(&mut self, disk: &mut Disk, order: Command) {
        match order {
            Command::Next(consumer) => self.waiting.push_back(consumer),
            Command::End(id, outcome) => {
                self.out.remove(&id);
                disk.finish(id);
                match (self.deliveries.remove(&id), outcome) {
                    (Some(delivery), Ok(())) => delivery.delivered(),
                    (Some(delivery), Err(refusal)) => delivery.refused(refusal),
                    (None, _) => {}
                }
            }
        }
    }

    /// Gives work to the consumers that wait for it, unless a read failed just now.
    fn hand_out(&mut self, disk: &mut Disk) {
        if Instant::now() < self.rests_until {
            return;
        }
        while self.out.values().sum::<u64>() < self.most_out
            && let Some(consumer) = self.waiting.pop_front()
        {
            if consumer.is_closed() {
                continue;
            }
            let now = self.site.clock.unix_nanos();
            if let Some(stored) = self.line.recall(disk, now) {
                self.give(disk, consumer, stored);
                continue;
            }
            let record = match disk.next(now) {
                Ok(record) => record,
                Err(error) => {
                    self.journal.disk(&error.to_string());
                    self.rests_until = Instant::now() + PAUSE;
                    None
                }
            };
            let Some(record) = record else {
                self.waiting.push_front(consumer);
                return;
            };
            let points = usize::try_from(record.points).unwrap_or(usize::MAX);
            let shipment = Shipment::encoded(record.payload.into(), points);
            self.give(disk, consumer, Stored { id: record.id, shipment });
        }
    }

    fn give(&mut self, disk: &mut Disk, consumer: oneshot::Sender<Stored>, stored: Stored) {
        self.forget_older(stored.id);
        self.out.insert(stored.id, stored.shipment.encoded_len() as u64);
        if let Err(stored) = consumer.send(stored) {
            self.out.remove(&stored.id);
            disk.give_back(stored.id);
        }
    }

    /// Who still waits for older records than the oldest that is left, and that nobody has, waits in vain.
    fn forget_older(&mut self, oldest: Id) {
        let lost: Vec<Id> =
            self.deliveries.range(..oldest).map(|(id, _)| *id).filter(|id| !self.out.contains_key(id)).collect();
        for delivery in lost.iter().filter_map(|id| self.deliveries.remove(id)) {
            delivery.refused(Refusal::later("the data was evicted from the queue before it could be sent"));
        }
    }

    fn sync(&mut self, disk: &mut Disk) {
        if let Err(error) = disk.sync_if_due(std::time::Instant::now()) {
            self.journal.disk(&error.to_string());
        }
    }

    /// Carries what the storage has counted over to the agent's metrics.
    fn count(&mut self, disk: &Disk) {
        let stats = disk.stats();
        // The file that is written to stays when it holds nothing any more; who watches the queue wants to see it empty.
        self.shown.show(if stats.records == 0 { 0 } else { self.units(&stats) });
        let before = std::mem::replace(&mut self.before, stats);
        let more = |loss: fn(&Stats) -> Loss| loss(&stats).points.saturating_sub(loss(&before).points);
        for (cause, points) in [("evicted_size", more(|s| s.evicted_size)), ("evicted_age", more(|s| s.evicted_age))] {
            if points > 0 {
                self.journal.evicted(points, cause);
            }
        }
        if stats.damaged != before.damaged {
            self.journal.damaged(
                damage(&stats.damaged).points - damage(&before.damaged).points.min(damage(&stats.damaged).points),
            );
        }
    }
}

/// All damage together.
fn damage(damage: &Damage) -> Loss {
    let Damage { cut, header, payload, missing, unreadable, foreign, .. } = *damage;
    [cut, header, payload, missing, unreadable, foreign].into_iter().fold(Loss::default(), |sum, loss| Loss {
        records: sum.records + loss.records,
        points: sum.points + loss.points,
        bytes: sum.bytes + loss.bytes,
    })
}
