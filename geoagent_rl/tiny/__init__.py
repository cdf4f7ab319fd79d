"""Everything that only the CPU demo needs: street scenes, the tiny policy, the tiny judge."""
