// Each live test boots a machine of its own, and waits are bounded by processor time.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
