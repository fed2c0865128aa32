"""What a deploy would change: two templates compared, what that means, and what the processor would write."""
