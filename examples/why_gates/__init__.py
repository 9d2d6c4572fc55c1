"""Why recurrent networks have gates: gradients over long lags, and a problem that needs them."""
