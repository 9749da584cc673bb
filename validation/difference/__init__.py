"""Study `difference`: does the joint optimum gain on one common ratio what its objective says, as phones differ more?"""
