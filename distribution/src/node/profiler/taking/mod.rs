//! Takes profiles: [`sampling`] interrupts threads, and [`handlers`] knows which thread runs which call.

mod handlers;
mod sampling;

pub(in crate::node) use self::handlers::running;
pub(super) use self::sampling::take;
