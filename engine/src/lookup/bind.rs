//! Giving plans what their tables hold.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::internal_datafusion_err;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;

use super::content::Content;
use super::exec::LookupExec;
use crate::Result;
use crate::spec::{ViewShape, ViewSpec};

/// What tables hold, by name.
#[derive(Debug, Clone, Default)]
pub struct Contents(pub BTreeMap<String, Arc<Content>>);

impl Contents {
    /// The view over these.
    pub fn of_view(&self, view: &ViewSpec) -> Result<ViewSpec> {
        Ok(ViewSpec { shape: self.of_shape(&view.shape)?, ..view.clone() })
    }

    pub fn of_shape(&self, shape: &ViewShape) -> Result<ViewShape> {
        let mut shape = shape.clone();
        match &mut shape {
            ViewShape::Copy { lowers } => {
                for plan in lowers {
                    *plan = self.of_plan(plan)?;
                }
            }
            ViewShape::Units { cuts, upper, .. } => {
                for lower in cuts.iter_mut().flat_map(|cut| &mut cut.lowers) {
                    lower.plan = self.of_plan(&lower.plan)?;
                }
                upper.plan = self.of_plan(&upper.plan)?;
            }
        }
        Ok(shape)
    }

    /// What the plans of a view are over.
    pub fn bound_in(view: &ViewSpec) -> Result<Contents> {
        let mut contents = Contents::default();
        let mut look = |plan: &Arc<dyn ExecutionPlan>| {
            plan.apply(|node| {
                if let Some(lookup) = (node.as_ref() as &dyn Any).downcast_ref::<LookupExec>() {
                    contents.0.insert(lookup.table().to_owned(), Arc::clone(lookup.content()));
                }
                Ok(TreeNodeRecursion::Continue)
            })
            .map(|_| ())
        };
        match &view.shape {
            ViewShape::Copy { lowers } => lowers.iter().try_for_each(&mut look)?,
            ViewShape::Units { cuts, upper, .. } => {
                let lowers = cuts.iter().flat_map(|cut| &cut.lowers);
                lowers.map(|lower| &lower.plan).chain([&upper.plan]).try_for_each(&mut look)?;
            }
        }
        Ok(contents)
    }

    fn of_plan(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let bound = Arc::clone(plan).transform_up(|node| {
            let Some(lookup) = (node.as_ref() as &dyn Any).downcast_ref::<LookupExec>() else {
                return Ok(Transformed::no(node));
            };
            let content = self.0.get(lookup.table()).ok_or_else(|| {
                internal_datafusion_err!(
                    "a plan looks up a table that is not there. table={}",
                    lookup.table()
                )
            })?;
            Ok(Transformed::yes(Arc::new(lookup.over(Arc::clone(content))) as Arc<dyn ExecutionPlan>))
        });
        Ok(bound.data()?)
    }
}
