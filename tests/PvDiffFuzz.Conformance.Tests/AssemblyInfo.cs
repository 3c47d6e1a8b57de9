// An endless loop is ended by time on the processor, so nothing else should compete for it.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
