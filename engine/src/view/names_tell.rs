//! Where two columns have one name, no filter is pushed down by names. DataFusion's physical rule for filters takes the
//! first column of a name for each that has it: above `x RIGHT JOIN y` the condition `y.s < greatest(x.s, y.s)` became
//! `y.s < greatest(y.s, y.s)` of `y` alone. What lies below, where names tell columns apart, is left to the rule.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;

use super::by_row::Rules;

/// The rules, of which those that push filters down do it where names tell columns apart.
pub(super) fn names_tell(rules: Rules) -> Rules {
    let told = |rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>| match rule.name() {
        "FilterPushdown" | "FilterPushdown(Post)" => Arc::new(NamesTell(rule)) as _,
        _ => rule,
    };
    rules.into_iter().map(told).collect()
}

struct NamesTell(Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl fmt::Debug for NamesTell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamesTell({})", self.0.name())
    }
}

impl PhysicalOptimizerRule for NamesTell {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if tells_apart(&plan) {
            return self.0.optimize(plan, config);
        }
        let children = plan.children().into_iter().map(|child| self.optimize(Arc::clone(child), config));
        let children = children.collect::<Result<_>>()?;
        replace_children_if_necessary(plan, children)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// In the node and all below it.
fn tells_apart(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let schema = plan.schema();
    let mut names = BTreeSet::new();
    schema.fields().iter().all(|field| names.insert(field.name().as_str()))
        && plan.children().into_iter().all(tells_apart)
}
