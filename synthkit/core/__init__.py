"""What every stage stands on: parameters, runs, records, the chat client, the Hub, errors."""
