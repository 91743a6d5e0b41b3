//! x
use super::Ctx;
use crate::{args, error::Result};
pub(crate) async fn run(_ctx: &Ctx, _args: args::Top) -> Result<()> {
    Ok(())
}
