package projector

// The statements by which lag is found, for the test of what they cost.
const (
	ArrivalQuery = arrivalQuery
	LagQuery     = lagQuery
)
