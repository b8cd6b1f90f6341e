package jetstreamlog

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// writeTimeout is how long NATS may take to accept what is written to it before the connection counts as lost.
const writeTimeout = 5 * time.Second

// Connect connects to NATS in the way that a process needs which outlives its NATS servers: it reconnects for
// ever, and it starts also while no server can be reached. What goes wrong in the background is logged. The caller
// closes the connection.
func Connect(url string, logger *slog.Logger, opts ...nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect(url, append([]nats.Option{
		nats.Name("millrace"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 100*time.Millisecond),
		nats.RetryOnFailedConnect(true),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(writeTimeout), // a server that takes nothing holds up whoever publishes
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			logger.Warn("NATS reports an error", "error", err, "subject", subject)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("the connection to NATS is lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { logger.Info("connected to NATS again") }),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("jetstreamlog: connecting to NATS: %w", err)
	}
	return nc, nil
}
