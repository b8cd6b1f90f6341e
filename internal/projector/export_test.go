package projector

// The statements by which lag is found, for the test of what they cost.
const (
	ArrivalQuery = arrivalQuery
	LagQuery     = lagQuery
)

// DeferredStatements is how many statements a rebuild has queued at most when it folds a page, and Queued how many it has.
const DeferredStatements = deferredStatements

func (t *Tx) Queued() int { return t.queued.Len() }
