//! What happens to a decoded batch inside a view: late rows leave, the lower half makes partial aggregates, panes keep
//! them, and the upper half makes rows of them when a window closes or somebody reads.

mod alone;
pub mod arrived;
mod by_row;
mod calendar;
pub mod compact;
mod dates;
mod extent;
mod fault;
mod filters_first;
mod fingerprint;
mod leaf;
pub mod left;
pub mod lower;
mod names_tell;
mod only;
mod open;
pub mod panes;
pub mod part;
pub mod pieces;
pub mod run;
mod running;
pub mod session;
mod sharing;
pub mod sieve;
mod state_scan;
mod tally;
mod tiers;
pub mod upper;
pub mod watermark;
mod window;

pub use by_row::by_row_too;
pub use compact::Buffers;
pub use dates::beyond_calendar;
pub use extent::{Above, Extent, Finishing, Stretch};
pub use fault::Fault;
pub use fingerprint::{fingerprint, reads};
pub use leaf::{LeafExec, MicroBatch};
pub use only::Only;
pub use open::{OpenInput, OpenPanes, Take, without_time};
pub use running::Room;
pub use state_scan::StateScan;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::{QueryPlanner, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;

use crate::lookup::LookupPlanner;

/// The planner's settings that a lower half, and the upper half above it, need to be right. Whoever plans for a view
/// starts from this state and adds its functions and planners.
pub fn planning_state() -> SessionStateBuilder {
    let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    let options = config.options_mut();
    // With many keys Partial would pass raw rows through, which pins the decoder's buffers in the state.
    options.execution.skip_partial_aggregation_probe_ratio_threshold = 1.0;
    // A TopK whose filter reaches its scan is single-use.
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_leaf_expression_pushdown = false;
    // Of `coalesce(n > 1, false)` the two planners know differently well that it is never NULL, and it is called a fault.
    options.execution.skip_physical_aggregate_schema_check = true;
    // A moment without a zone is none: literals and functions that make moments make them in UTC, as the decoder does.
    options.execution.time_zone = Some("UTC".into());
    let rules = PhysicalOptimizer::new()
        .rules
        .into_iter()
        // Final over Partial must stay two nodes, also at one partition: the cut lies between them.
        .filter(|rule| rule.name() != "CombinePartialFinalAggregate")
        .collect();
    SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_physical_optimizer_rules(by_row_too(rules))
        .with_query_planner(Arc::new(LowerPlanner))
}

/// The planner of lower halves, which may look tables up.
#[derive(Debug)]
struct LowerPlanner;

#[async_trait]
impl QueryPlanner for LowerPlanner {
    async fn create_physical_plan(
        &self,
        logical: &LogicalPlan,
        session: &dyn Session,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(LookupPlanner)]);
        planner.create_physical_plan(logical, session).await
    }
}

/// Plans and runs with [`planning_state`] as it is.
pub fn plain_planning_state() -> SessionState {
    planning_state().build()
}
