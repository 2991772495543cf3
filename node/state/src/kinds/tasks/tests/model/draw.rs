//! What is done to tasks, drawn.

use super::super::hostile::draw_op;
use super::*;
use crate::laws::Draw;

impl Model {
    /// An operation that mostly speaks of what is there.
    pub(super) fn draw(&self, draw: &mut Draw) -> TaskOp {
        let mut op = draw_op(draw);
        if draw.within(0..8) == 0 || self.tasks.is_empty() {
            return op;
        }
        let pick = |draw: &mut Draw| &self.tasks[draw.within(0..self.tasks.len() as u64) as usize];
        match &mut op {
            TaskOp::Put { nonce, .. } | TaskOp::PutBatch { nonce, .. } => *nonce = draw.within(1..1 << 40),
            TaskOp::Claim(claim) => {
                let worker = WORKERS.into_iter().find(|name| *name == claim.worker).unwrap_or("a");
                let (number, kept, given) = self.workers.get(worker).cloned().unwrap_or_default();
                claim.number = number + draw.within(0..3);
                let held = kept.iter().chain(&given).filter(|_| draw.within(0..3) > 0);
                claim.holds = held.map(|lease| lease.fence).collect();
            }
            TaskOp::End { id, fence, .. } | TaskOp::EndWith { id, fence, .. } => {
                (*id, *fence) = (pick(draw).id, pick(draw).fence)
            }
            TaskOp::Expire { leases } => leases.iter_mut().for_each(|lease| {
                let task = pick(draw);
                *lease = Lease { id: task.id, fence: task.fence };
            }),
            TaskOp::Cancel { id } | TaskOp::Revive { id } => *id = pick(draw).id,
            _ => {}
        }
        if let TaskOp::End { id, fence, .. } | TaskOp::EndWith { id, fence, .. } = &mut op
            && draw.within(0..4) > 0
        {
            *fence = self.tasks.iter().find(|task| task.id == *id).map_or(0, |task| task.fence);
        }
        op
    }
}
